"""Counts the AST statements of audiojax and experiments; imports and docstrings do not count.

python -m experiments.studies.statements
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def statements(path: Path) -> int:
    """Returns the number of statements in a Python file."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.stmt)]
    text = [node for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    return len(nodes) - sum(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes) - len(text)


if __name__ == "__main__":
    for folder in ("audiojax", "experiments"):
        print(f"{folder:<12}{sum(map(statements, (ROOT / folder).rglob('*.py'))):6,}")
