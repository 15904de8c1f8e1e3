"""Recognises the words in a sound file with an exported streaming recogniser; needs numpy, onnxruntime and soundfile.

python experiments/streaming/recognize_onnx.py WORKDIR/export FILE.wav

FILE.wav is mono and has the sampling rate that the export's manifest.json names. The output has a line for each word:
its start, its end and when it was emitted, in seconds, the word, and its probability.
"""

import argparse
import json
import sys

import numpy as np
import onnxruntime
import soundfile


def main(folder: str, path: str) -> None:
    """Prints the words in the sound file `path`, recognised by the network exported to `folder`."""
    with open(f"{folder}/manifest.json") as file:
        about = json.load(file)
    if "listening" not in about:
        sys.exit(f"{folder} has a network that classifies clips; export one that recognises streams.")
    audio, rate_hz = soundfile.read(path, dtype="int16")
    if rate_hz != about["rate_hz"] or audio.ndim > 1:
        sys.exit(f"{path} is not mono sound of {about['rate_hz']} Hz; convert it first.")
    settings, size = about["listening"], about["step_samples"]
    if "lead_amplitude" not in settings:
        sys.exit(f"{folder} was exported by an earlier version; export the network again.")
    lead = round(settings["lead_seconds"] * rate_hz)  # a stream begins with faint noise
    noise = np.round(settings["lead_amplitude"] * np.sin(np.arange(lead) ** 2.0)).astype(np.int16)
    silence = round(settings["flush_seconds"] * rate_hz)  # so that the last word is emitted
    audio = np.concatenate([noise, np.pad(audio, (0, silence + -(len(audio) + silence) % size))])

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # one step is too little work for several threads
    session = onnxruntime.InferenceSession(f"{folder}/step.onnx", options)
    carry = {part["name"]: np.zeros([1, *part["shape"][1:]], np.float32) for part in about["carry"]}
    scores = np.eye(len(about["label_names"]) + 1)[-1]  # the last score is that of no word
    armed, last, since = True, -1, 1000
    num_words, first = len(about["label_names"]), 1 - lead // size
    for number, hop in enumerate(np.split(audio, len(audio) // size), start=first):
        [outputs], *after = session.run(None, {"audio": hop[None], **carry})
        carry = dict(zip(carry, after, strict=True))
        logits, (began, ended), more = np.split(outputs, [num_words + 1, num_words + 3])
        if number < 1:
            continue
        likely = np.exp(logits - logits.max())
        scores = settings["ema_decay"] * scores + (1 - settings["ema_decay"]) * likely / likely.sum()
        words, since = scores[:-1], since + 1
        best = int(words.argmax())
        another = best != last and since >= settings["refractory_steps"]
        if (armed or another) and words[best] > settings["threshold"]:
            now = number * size / rate_hz
            end = max(0.0, now - ended)
            start = min(end, max(0.0, now - began))
            for _ in range(1 + int((more > 0).sum())):  # "double five" is two words
                print(f"{start:.3f} {end:.3f} {now:.3f} {about['label_names'][best]} {words[best] / words.sum():.4f}")
            armed, last, since = False, best, 0
        else:
            armed = armed or words.sum() < settings["threshold"] / 3


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", help="the folder that audiojax.export wrote for a streaming model")
    parser.add_argument("path", metavar="FILE.wav")
    main(**vars(parser.parse_args()))
