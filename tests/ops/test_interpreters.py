"""Interpreters beside the usual one: the core runs without the GIL, and refuses a subinterpreter."""

from __future__ import annotations

import subprocess
import sys
import sysconfig

IN_ANOTHER = """
import fastpose._C
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = '''
import importlib.util
spec = importlib.util.spec_from_file_location("fastpose._C", {file!r})
try:
    importlib.util.module_from_spec(spec)
except ImportError as error:
    print("refused:", error)
'''
result = interpreters.run_string(interpreters.create(), code.format(file=fastpose._C.__file__))
assert result is None, result
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_subinterpreter_is_refused() -> None:
    assert run(IN_ANOTHER).startswith("refused: ")


def test_the_core_does_without_the_gil() -> None:
    """Where the interpreter has none; with one, that the module is the usual one."""
    code = "import sys, fastpose._C as core; print(core.__name__, getattr(sys, '_is_gil_enabled', lambda: True)())"
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    assert run(code) == f"fastpose._C {not free_threaded}\n"
