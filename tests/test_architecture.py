"""The shape of the code: who may import whom, that each op has all it needs, and that nothing outgrows a page."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import reference

import numbanet
from numbanet.kernels import OPS, cpu, cuda
from numbanet.kernels.jit import Family, Kernel, PerFunction

PACKAGE = Path(numbanet.__file__).parent
ROOT = Path(__file__).parent.parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
CODE = SOURCES + sorted((ROOT / "tests").rglob("*.py")) + sorted((ROOT / "benchmarks").glob("*.py"))

WORDS = ["batch", "dense", "function", "pointwise", "norm", "noise", "loss", "update"]  # modules of kernels

# From the bottom up: a module imports from its own group and from those before it.
ORDER = [
    ["names"],
    ["kernels"],
    ["validate"],
    ["initializers", "regularizers", "schedules", "functions"],
    ["layers", "losses", "metrics", "optimizers"],
    ["graph"],
    ["plan"],
    ["builder"],
    ["updates"],
    ["planner"],
    ["pace"],
    ["program"],
    ["training", "summary", "sharing", "parts"],
    ["callbacks", "intake", "lbfgs"],
    ["fitting"],
    ["model"],
    ["gradients", "report", "io", "data", "warmup"],
    ["sources", "plot", "cli"],
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
# Imported inside a function, by a module below: Model.save, a method users expect, is one line.
UPWARD = {("model", "io")}
EVERYWHERE = {"__init__", "__main__"}


def words(path):
    """A source's name among the levels: its file or folder directly below the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """The package's own modules that a source imports, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "numbanet":
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "numbanet")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = words(path)
    if own in EVERYWHERE:
        return
    assert own in LEVEL, f"{own} has no place in the order of imports"
    for name in imports(path):
        other = name.split(".")[1] if "." in name else None
        if other is None:
            assert own == "cli", f"{own} imports the package's front door"
        elif other in LEVEL and (own, other) not in UPWARD:
            assert LEVEL[other] <= LEVEL[own], f"{own} imports {name}, which stands above it"


def test_layers_and_plans_know_no_kernels():
    above = [name for names in ORDER[3:10] for name in names]
    assert (above[0], above[-1]) == ("initializers", "planner")
    for path in SOURCES:
        if words(path) in above:
            for name in imports(path):
                assert not re.match(r"numbanet\.kernels\.(cpu|cuda|jit|scalar)", name), f"{path} imports {name}"


def test_kernels_know_no_objects():
    for path in (PACKAGE / "kernels").rglob("*.py"):
        for name in imports(path):
            assert name.startswith(("numbanet.kernels", "numbanet.names")), f"{path} imports {name}"


@pytest.mark.parametrize("device", [cpu, cuda], ids=lambda device: device.NAME)
def test_every_op_has_a_kernel_with_the_one_signature(device):
    assert set(device.KERNELS) == set(OPS)
    for kernel in device.KERNELS.values():
        assert list(inspect.signature(kernel.function).parameters) == [
            "op",
            "theta",
            "work",
            "step",
            "first",
            "last",
        ]
        assert kernel.function.__doc__, f"{kernel.name} has no equation"


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_every_op_has_a_reference_a_test_and_a_benchmark(op):
    assert callable(getattr(reference, op.name, None)), f"no reference for {op.name}"
    word = next(
        module.__name__.rsplit(".", 1)[1]
        for module in (getattr(cpu, word) for word in WORDS)
        if any(
            isinstance(value, Kernel | Family | PerFunction) and value.name == op.name
            for value in vars(module).values()
        )
    )
    stem = op.name.removesuffix("_forward").removesuffix("_backward")
    assert re.search(rf"\b{stem}", (ROOT / "tests" / f"test_{word}.py").read_text()), f"no test of {op.name}"
    assert f'"{op.name}"' in (ROOT / "benchmarks" / f"bench_{word}.py").read_text(), f"no benchmark of {op.name}"


def arguments(thing):
    """The arguments of a function or of a class and its methods, as far as others may call them."""
    if inspect.isclass(thing):
        methods = {key: value for key, value in vars(thing).items() if key == "__init__" or key[0] != "_"}
        return {key: arguments(value) for key, value in methods.items()}
    return list(inspect.signature(thing).parameters)


@pytest.mark.parametrize("word", WORDS)
def test_kernels_are_twins(word):
    """The CPU's and the GPU's modules of one word have the same kernels with the same arguments."""
    kinds = Kernel | Family | PerFunction | cuda.target.Kernel | cuda.target.PerFunction
    ours, theirs = (
        {value.name: value for value in vars(getattr(device, word)).values() if isinstance(value, kinds)}
        for device in (cpu, cuda)
    )
    assert set(ours) == set(theirs)
    for name in ours:
        assert arguments(ours[name].function) == arguments(theirs[name].function)


def test_devices_offer_the_same():
    """What programs ask of a device's module has the same names and arguments everywhere."""
    only_here = {"LOOPS", "SAME_SETS", "get_num_threads", "set_num_threads"}  # threads, and the way around a program
    assert set(cpu.__all__) - set(cuda.__all__) == only_here
    assert set(cuda.__all__) <= set(cpu.__all__)
    for name in cuda.__all__:
        ours, theirs = getattr(cpu, name), getattr(cuda, name)
        assert type(ours) is type(theirs), name
        if inspect.isclass(ours):
            assert arguments(theirs)["__init__"] == arguments(ours)["__init__"]
            assert arguments(theirs)["run"] == arguments(ours)["run"]
        elif callable(ours):
            assert arguments(ours) == arguments(theirs), name


def test_kernels_of_one_device_do_not_know_the_other():
    for device, other in (("cpu", "cuda"), ("cuda", "cpu")):
        for path in (PACKAGE / "kernels" / device).rglob("*.py"):
            assert not any(name.startswith(f"numbanet.kernels.{other}") for name in imports(path)), path


def test_one_file_imports_numba_cuda():
    """Its successor is then a change of one file."""
    for path in SOURCES:
        if path != PACKAGE / "kernels" / "cuda" / "target.py":
            assert not re.search(r"(import|from) numba\.cuda|from numba import .*\bcuda\b", path.read_text()), path


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_gradient_ops_fit_their_forward_op(op):
    assert op.axis in ("batch", "features", "parameter", "whole")
    for name in op.backward:
        (target,) = OPS[name].writes
        assert target[0] == "d"
        assert target[1:] in op.operands
        known = {*op.operands, *(f"d{key}" for key in op.writes), target, *(f"transposed_{key}" for key in op.operands)}
        assert set(OPS[name].operands) <= known
        assert set(OPS[name].sizes) <= {*op.sizes, "at"}


def functions(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.name)
def test_nothing_outgrows_a_page(path):
    text = path.read_text()
    assert text.count("\n") <= 450, f"{path.name} has {text.count(chr(10))} lines"
    for node in functions(ast.parse(text)):
        lines = node.end_lineno - node.lineno + 1
        assert lines <= 60, f"{path.name}: {node.name} has {lines} lines"


def test_public_names_have_docstrings():
    for name in numbanet.__all__:
        thing = getattr(numbanet, name)
        assert inspect.getdoc(thing), f"{name} has no docstring"
        if inspect.isclass(thing):
            for key, value in vars(thing).items():
                if callable(value) and not key.startswith("_") and value.__qualname__.startswith(name):
                    inherited = [getattr(getattr(base, key, None), "__doc__", None) for base in thing.__mro__]
                    assert any(inherited), f"{name}.{key} has no docstring"


def test_no_array_is_reduced_in_a_parallel_loop():
    """`g += X[i]` with g an array inside prange corrupts the heap (Numba 0.59 to 0.68): only the engine has prange."""
    for path in SOURCES:
        if "prange" in path.read_text():
            assert path == PACKAGE / "kernels" / "cpu" / "engine.py"
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.For) and "prange" in ast.dump(node.iter):
                    assert not [n for n in ast.walk(node) if isinstance(n, ast.AugAssign)]


def test_flags_of_the_compiler_live_in_one_file():
    for path in SOURCES:
        if path != PACKAGE / "kernels" / "jit.py":
            assert not re.search(r"fastmath(?!=FAST)|error_model|nogil|THREADING_LAYER|\bnjit\b", path.read_text()), (
                path
            )


def modules_after(statement):
    """Top-level modules that a new process has loaded after a statement, and numba.cuda if it is among them."""
    names = "{name if name == 'numba.cuda' else name.split('.')[0] for name in sys.modules}"
    code = f"import sys; {statement}; print(*{names})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_is_light():
    """`import numbanet` loads no GPU driver, and no plotting, learning or test package that Numba has not loaded."""
    heavy = {"matplotlib", "sklearn", "scipy", "pandas", "torch", "pytest", "jax", "onnx"}
    ours = modules_after("import numbanet")
    assert "numba.cuda" not in ours
    assert not (ours - modules_after("import numba")) & heavy
