// Runs pytest in Pyodide: node tests/pyodide.mjs FOLDER [ARGUMENT...], from the
// checkout. FOLDER has what npm installed, and in site/ what pip did.

const [folder, ...args] = process.argv.slice(2);
const { loadPyodide } = await import(`${folder}/node_modules/pyodide/pyodide.mjs`);

const python = await loadPyodide({ env: { PYTHONPATH: "/site" } });
for (const [inside, outside] of [["/site", `${folder}/site`], ["/checkout", "."]]) {
  python.FS.mkdirTree(inside);
  python.mountNodeFS(inside, outside);
}
python.globals.set("args", python.toPy(args));

const program = `
import asyncio, importlib, os, sys, warnings

os.chdir("/checkout")
sys.path.remove("")  # what is installed is tested, not the checkout
importlib.invalidate_caches()

# Pyodide's event loop is JavaScript's, which never ends. What is tested is Python's
# own, which works here but for the pipe through which other threads would wake it.
asyncio._set_running_loop(None)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    asyncio.set_event_loop_policy(None)
for name in ("_make_self_pipe", "_close_self_pipe", "_write_to_self"):
    setattr(asyncio.SelectorEventLoop, name, lambda self: None)

import pytest

int(pytest.main(args))
`;

try {
  process.exitCode = python.runPython(program);
} catch (error) {
  console.error(error.stack); // Node itself would show a megabyte of Pyodide's source
  process.exitCode = 1;
}
