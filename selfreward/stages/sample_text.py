"""Text that every machine with this package has: documentation, under free licences.

`sample:docstrings` are the docstrings of the standard library and of the packages we run on, read
from their source: nothing is imported. `sample:python_docs` are the topics of Python's language
reference that `help()` shows. None of it is shipped with us, and neither holds the other.
"""

import ast
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from selfreward.errors import DataError

# Those whose docstrings explain much for the source that must be parsed: half a minute yields some
# 30 MB. Licences: standard library PSF-2.0; numpy, scipy, pandas, sklearn, joblib, sympy, networkx,
# fsspec and click BSD-3-Clause; ray, datasets, peft, accelerate, huggingface_hub, nltk and pyarrow
# Apache-2.0; sqlalchemy and pydantic MIT.
PACKAGES: tuple[str, ...] = (
    *sorted(sys.stdlib_module_names),
    "numpy",
    "scipy",
    "pandas",
    "sklearn",
    "joblib",
    "sympy",
    "networkx",
    "fsspec",
    "click",
    "ray",
    "datasets",
    "peft",
    "accelerate",
    "huggingface_hub",
    "nltk",
    "pyarrow",
    "sqlalchemy",
    "pydantic",
)

# Tests say little in words; what is copied in from other projects may have another licence.
_TESTS = {"test", "tests", "idle_test"}
_COPIES = {"_vendor", "vendor", "vendored", "_bundled", "externals", "extern", "site-packages"}
_COPIES |= {"third_party", "thirdparty", "_thirdparty", "thirdparty_files"}
_SKIPPED = frozenset(_TESTS | _COPIES)


def docstring_documents(packages: Sequence[str] = PACKAGES) -> Iterator[tuple[str, str]]:
    """Yields (`docstrings/<module>`, its docstrings) of every installed one of `packages`.

    The docstrings of a module, its classes and its functions stand in the order of the source,
    dedented and parted by blank lines. Which text there is follows from the versions installed.
    """
    for package in packages:
        for module, path in _modules(package):
            docstrings = _docstrings(path.read_bytes())
            if docstrings:
                yield f"docstrings/{module}", "\n\n".join(docstrings)


def topic_documents() -> Iterator[tuple[str, str]]:
    """Yields (`python_docs/<topic>`, its text) of the language reference, in order of the names.

    Raises:
        DataError: this Python was packed without them.
    """
    try:
        from pydoc_data.topics import topics  # 700 kB that only this needs
    except ImportError:
        raise DataError(
            "sample:python_docs: this Python has no module pydoc_data.topics; name files of your"
            " own in the corpus's `sources`"
        ) from None
    for topic, text in sorted(topics.items()):
        yield f"python_docs/{topic}", text


def _modules(package: str) -> list[tuple[str, Path]]:
    """Names and files of a package's modules, sorted; [] if it is not installed as source."""
    # A top-level name is found without running any of its code.
    where = [sysconfig.get_path("stdlib")] if package in sys.stdlib_module_names else None
    spec = PathFinder.find_spec(package, where)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return []
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return [(package, origin)]
    root = origin.parent
    found = []
    for path in root.rglob("*.py"):
        *folders, stem = path.relative_to(root).with_suffix("").parts
        if _SKIPPED.isdisjoint(folders):
            names = [package, *folders] if stem == "__init__" else [package, *folders, stem]
            found.append((".".join(names), path))
    return sorted(found)


def _docstrings(source: bytes) -> list[str]:
    # Most of a large package's files have none, and parsing is what takes the time.
    if b'"""' not in source and b"'''" not in source:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the source: escapes that are none
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []  # a template, or code of another Python: it has no docstrings to read
    # An overload repeats the docstring of the one before.
    return list(dict.fromkeys(text for text in _walk(tree) if text))


def _walk(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield ast.get_docstring(node) or ""
    # Definitions stand in bodies only; expressions, the bulk of a tree, are never entered.
    for body in ("body", "handlers", "orelse", "finalbody"):
        children = getattr(node, body, None)
        for child in children if isinstance(children, list) else ():
            yield from _walk(child)
