"""Functions of all commands: the option --config with its overrides, the setup of jax, errors in one sentence."""

import argparse
import contextlib
import ctypes
import difflib
import errno
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from audiojax import config as configs
from audiojax import reference, renamed
from audiojax.errors import InputError, one_line
from audiojax.training.preemption import Stopped

_SPACE = "make room there, or choose another disk with --workdir or --config.data.cache; what was saved is complete."
_RIGHTS = "choose a folder that you may write to with --workdir or --config.data.cache."
_FIXES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _SPACE),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _RIGHTS),
}
_at_once: list[bool] = []  # not empty if `run` does not wait


def _interrupt(number: int, _: object) -> None:
    raise KeyboardInterrupt(number)


def run(
    main: Callable[[list[str]], int | None],
    *,
    interrupted: str = "interrupted; the same command continues from what is complete.",
) -> None:
    """Runs a command with the arguments of this process, and exits with the command's exit code.

    An error that the user can fix, Ctrl-C and SIGTERM become one sentence on stderr and a non-zero exit code.

    Args:
        main: The command, a function from the list of its arguments to its exit code; None stands for 0.
        interrupted: The sentence for Ctrl-C and SIGTERM.
    """
    try:
        _run(main, interrupted)
    except BaseException as error:
        if not _at_once:
            raise
        code = error.code if isinstance(error, SystemExit) else "".join(traceback.format_exception(error))
        if isinstance(code, str):
            print(code, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def exit_at_once() -> None:
    """Makes `run` exit without waiting for threads and exit handlers, which may wait for another process forever."""
    _at_once.append(True)


def _run(main: Callable[[list[str]], int | None], interrupted: str) -> None:
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = main(sys.argv[1:])
    except InputError as error:
        sys.exit(f"audiojax: {error}")
    except Stopped as stopped:
        print(f"audiojax: {stopped}", file=sys.stderr)
        code = 128 + stopped.signal_number
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        print(f"\naudiojax: {interrupted}", file=sys.stderr)
        code = 128 + number
    except BrokenPipeError:  # the reader, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        where, what = error.filename or "the disk", error.strerror or str(error)
        sys.exit(
            f"audiojax: {where}: {what}; {_FIXES.get(error.errno or 0, 'fix the cause and run the command again.')}"
        )
    except (MemoryError, RuntimeError) as error:
        out_of_memory = re.search("RESOURCE_EXHAUSTED|Out of memory", str(error))  # the messages of jax
        if isinstance(error, RuntimeError) and not out_of_memory:
            raise
        sys.exit(
            f"audiojax: there is too little memory ({one_line(error, 120)}); "
            "lower --config.train.batch_size, in another --workdir."
        )
    sys.exit(code)


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """Returns a parser for the options of `python -m audiojax.NAME`, or of `python -m NAME` if the name has a dot.

    Its help shows `description` without reformatting it.
    """
    return argparse.ArgumentParser(
        prog=f"python -m {name if '.' in name else f'audiojax.{name}'}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def parse_with_config(command: argparse.ArgumentParser, argv: list[str]) -> tuple[argparse.Namespace, ConfigDict]:
    """Parses a command's options, which include `--config FILE.py[:ARGUMENT]` and overrides `--config.KEY=VALUE`.

    Args:
        command: The parser of the command's other options; `--config` is added to it.
        argv: The arguments of the command, without its name.

    Returns:
        The values of the options, and the config with its overrides.

    Raises:
        InputError: An option is unknown, the config file cannot be used, or a key or its value is invalid.
    """
    command.add_argument(
        "--config", required=True, metavar="FILE.py[:ARG]", help=f"config file; ARG is {configs.GRAMMAR}"
    )
    if {"-h", "--help"} & set(argv):
        command.epilog = "\n\n".join(part for part in (command.epilog, reference.text()) if part)
    args, overrides = command.parse_known_args(argv)
    overrides = renamed.with_new_names(overrides)
    path, colon, arg = args.config.partition(":")
    file = f"{_config_file(Path(path))}{colon}{arg}"
    try:
        config, rest = _read([f"--config={file}", *overrides])
    except flags.UnrecognizedFlagError as error:
        raise InputError(f"unknown option --{error.flagname}; see --help (keys are set as --config.KEY).") from None
    except flags.Error as error:
        raise InputError(f"{' '.join(str(error).split()).rstrip('.: ')}.") from error
    except (AttributeError, KeyError) as error:
        keys = list(configs.flatten(_read([f"--config={file}"])[0].to_dict()))
        raise InputError(_wrong_key(keys, overrides) or f"{args.config}: {_first_line(error)}.") from error
    if rest:
        raise InputError(f"{rest[0]!r} is not understood; keys are set as --config.KEY=VALUE.")
    configs.check(config)
    return args, config


def _config_file(path: Path) -> Path:
    """Returns `path`, or the packaged config of that name. Raises InputError if there is neither."""
    package = Path(__file__).parent
    folders = (package / "configs", package.parent / "configs")  # in a wheel and in a checkout
    packaged = {f"configs/{file.name}": file for folder in folders for file in sorted(folder.glob("[!_]*.py"))}
    file = path if path.is_file() else packaged.get(path.as_posix())
    if file is None:
        names = ", ".join(packaged)
        raise InputError(f"--config {path} is not a file; give the path of a config file, or a packaged one: {names}.")
    return file


def _read(argv: list[str]) -> tuple[ConfigDict, list[str]]:
    """Returns the config of the flags in `argv`, and the arguments that are not flags."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values, sys_argv=["audiojax", *argv])
    rest = values(["audiojax", *argv])[1:]
    return values["config"].value, rest


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")


def _wrong_key(keys: list[str], overrides: list[str]) -> str | None:
    """Returns the error message for the first override of an unknown key; None if there is none."""
    for override in overrides:
        match = re.match(r"--(?:no)?config\.([^=]+)", override)
        if match and match[1] not in keys:
            nearest = difflib.get_close_matches(match[1], keys, 1, 0.6)
            section = match[1].partition(".")[0]
            names = [key for key in keys if key.startswith(f"{section}.")]
            listed = f"the keys{f' of config.{section}' if names else ''} are {', '.join(names or keys)}"
            hint = f"did you mean --config.{nearest[0]}? {listed.capitalize()}." if nearest else f"{listed}."
            return f"there is no key config.{match[1]}; {hint}"
    return None


def setup_jax() -> None:
    """Enables jax's compilation cache and reduces the log output of libraries; on the CPU, it keeps freed memory."""
    if _on_cpu():
        keep_memory()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("absl").setLevel(logging.ERROR)
    import jax

    jax.config.update("jax_compilation_cache_dir", str(configs.cache_dir() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _on_cpu() -> bool:
    """Returns whether jax will compute on the CPU, before jax is imported: by $JAX_PLATFORMS or the plugins."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    return platforms == "cpu" if platforms else not (metadata.entry_points(group="jax_plugins") or find_spec("libtpu"))


def keep_memory() -> None:
    """Configures the C library to keep freed memory for the next training step instead of returning it to the system.

    A training step of AudioNet allocates and frees 1.6 GB; page faults would take a quarter of its time on the CPU. The
    settings exist in glibc only (mallopt(3)); with other C libraries this does nothing.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        for setting, value in ((-4, 0), (-1, -1), (-8, 1)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX
            ctypes.CDLL(None).mallopt(setting, value)
