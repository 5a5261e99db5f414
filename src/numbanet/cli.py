"""The command line: numbanet train, predict, evaluate, info, warmup.

Results go to standard output, everything else to standard error. Exit status 0, or 1 after a sentence on what was
wrong, 2 for wrong usage, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time

import numbanet as nn
from numbanet import kernels, sources
from numbanet.layers import ACTIVATIONS
from numbanet.optimizers import OPTIMIZERS

DATA = f"""a data set by name ({", ".join(sources.NAMES)}), or a file: .csv (target in the last column, see --target),
.npz (arrays X and y, perhaps X_test and y_test), or IDX images (their labels beside them, or --labels)"""


def main(arguments=None):
    """Run the command line; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as problem:
        where = f": {problem.filename}" if problem.filename else ""
        print(f"numbanet: {problem.strerror or problem}{where}", file=sys.stderr)
        return 1
    except (ValueError, TypeError, MemoryError, ImportError, kernels.DeviceError) as problem:
        print(f"numbanet: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser():
    """The argument parser."""
    top = argparse.ArgumentParser(prog="numbanet", description="Train and use small neural networks, fast.")
    top.add_argument("--version", action="version", version=f"numbanet {nn.__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    train = _command(commands, "train", train_command, "train a network and print its accuracy or error")
    train.add_argument("data", help=DATA)
    _data_options(train)
    train.add_argument("--layers", type=_sizes, default="256,128", help="units of the hidden layers (%(default)s)")
    train.add_argument("--activation", choices=ACTIVATIONS, default="relu", help="of the hidden layers (%(default)s)")
    train.add_argument("--epochs", type=int, default=40, help="(%(default)s)")
    train.add_argument("--batch-size", type=int, default=32, help="(%(default)s)")
    train.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="(%(default)s)")
    train.add_argument("--lr", type=float, help="learning rate (the optimiser's default)")
    train.add_argument("--seed", type=int, default=0, help="of weights and order of samples (%(default)s)")
    train.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="(%(default)s)")
    _device_option(train)
    train.add_argument("--threads", type=int, help="threads to use (all)")
    train.add_argument("--quiet", action="store_true", help="no progress bar")
    train.add_argument("--validation-split", type=float, default=0.0, metavar="SHARE",
                       help="share of the training samples that only judges, after each epoch (none)")  # fmt: skip
    train.add_argument("--plot", metavar="FILE", help="draw loss and metric by epoch, and the boundary for two inputs")
    train.add_argument("--save", metavar="FILE", help="write the trained model, such as model.safetensors")

    predict = _command(commands, "predict", predict_command, "print the network's output, a line a sample")
    predict.add_argument("model", help="file written by train --save or model.save")
    predict.add_argument("data", help=DATA)
    _data_options(predict)
    _device_option(predict)
    predict.add_argument("--output", metavar="FILE", help="write the outputs as .npy or .csv instead")
    predict.add_argument("--classes", action="store_true", help="print the number of the largest output instead")

    evaluate = _command(commands, "evaluate", evaluate_command, "print loss and metrics on a data set")
    evaluate.add_argument("model", help="file written by train --save or model.save")
    evaluate.add_argument("data", help=DATA)
    _data_options(evaluate)
    _device_option(evaluate)
    evaluate.add_argument("--all", action="store_true", help="on all samples, not only on those that train holds out")

    info = _command(
        commands, "info", info_command, "print a model's layers and its plan, or the devices of this machine"
    )
    info.add_argument("model", nargs="?", help="file written by train --save or model.save")
    info.add_argument("--devices", action="store_true", help="the devices that models can compute on")
    info.add_argument("--mode", choices=("train", "predict"), help="the plan to show (train if compiled)")
    info.add_argument("--batch-size", type=int, default=32, help="of the plan (%(default)s)")

    _command(commands, "warmup", warmup_command, "compile everything once and keep it on disk")
    return top


def _command(commands, name, run, text):
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    return command


def _data_options(command):
    command.add_argument("--target", default="-1", help="target column of a .csv: name or number (last)")
    command.add_argument("--labels", metavar="FILE", help="IDX file with the labels of IDX images")


def _device_option(command):
    command.add_argument("--device", choices=kernels.DEVICES, default="cpu", help="where to compute (%(default)s)")


def _sizes(text):
    sizes = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(part.isdigit() and int(part) > 0 for part in sizes):
        raise argparse.ArgumentTypeError(f"{text!r}: expected sizes like 128,64 (or '' for none)")
    return [int(part) for part in sizes]


def network(options, shape, problem):
    """A compiled network for samples of a shape and a problem (see sources.Problem)."""
    initializer = "he_normal" if options.activation == "relu" else "glorot_uniform"
    layers = [nn.Input(shape)] + ([nn.Flatten()] if len(shape) > 1 else [])
    layers += [nn.Dense(units, options.activation, kernel_initializer=initializer) for units in options.layers]
    layers.append(nn.Dense(problem.outputs, problem.activation))
    model = nn.Sequential(layers, seed=options.seed, dtype=options.dtype)
    optimizer = OPTIMIZERS[options.optimizer]()
    model.compile(optimizer if options.lr is None else optimizer.with_rate(options.lr), problem.loss, problem.metrics)
    return model


def train_command(options):
    """Train, print the figures of the held-out part, save."""
    if options.threads is not None:
        nn.set_num_threads(options.threads)
    if options.plot:
        nn.plot.check(options.plot)  # not after minutes of training
    began = time.perf_counter()
    samples = sources.read(options.data, options.target, options.labels)
    model = network(options, samples.X.shape[1:], sources.problem(samples.y)).to(options.device)
    if options.save:
        sources.check_directory(options.save)
    verbose = 0 if options.quiet else 1
    X, y = samples.part(samples.train)
    settings = {"epochs": options.epochs, "validation_split": options.validation_split, "verbose": verbose}
    history = model.fit(X, y, batch_size=options.batch_size, **settings)
    print(
        f"{options.data}: {model.graph.count} parameters, {len(history.epoch)} of {options.epochs} epochs on "
        f"{len(X)} samples, {time.perf_counter() - began:.1f} s"
    )
    print(_figures(model.evaluate(*samples.part(samples.test))), _held_out(samples))
    if options.save:
        model.save(options.save)
        print(f"saved to {options.save}")
    if options.plot and history.epoch:
        nn.plot.training(history, model, X, y, options.plot)
        print(f"drawn in {options.plot}")
    interrupted = len(history.epoch) < options.epochs and model.optimizer.mode == "train"  # L-BFGS ends by itself
    return 130 if interrupted else 0


def _figures(figures):
    """ "accuracy 97.77%, loss 0.09" """
    shown = {
        name: f"{name} {100 * value:.2f}%" if name.endswith("accuracy") else f"{name} {value:.5f}"
        for name, value in figures.items()
    }
    return ", ".join([text for name, text in shown.items() if name != "loss"] + [shown["loss"]])


def _held_out(samples):
    return f"({samples.test.sum()} samples: {samples.held_out})"


def predict_command(options):
    """Print or write the outputs for all samples."""
    if options.output:
        sources.check_output(options.output)
    model = nn.load(options.model).to(options.device)
    outputs = model.predict(sources.read(options.data, options.target, options.labels, features(model)).X)
    outputs = outputs.reshape(len(outputs), -1)
    if options.classes:
        outputs = outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0.5).astype(int)
    sources.write(options.output or sys.stdout, outputs)
    return 0


def features(model):
    """The number of features of a model with one input."""
    return math.prod(model.graph.inputs[0].shape)


def evaluate_command(options):
    """Print the figures on the part of a data set that train holds out, or on all of it."""
    model = nn.load(options.model).to(options.device)
    samples = sources.read(options.data, options.target, options.labels)
    if samples.y is None:
        raise ValueError(f"{options.data} has no targets to compare with")
    if options.all:
        print(_figures(model.evaluate(samples.X, samples.y)), f"(all {len(samples.X)} samples)")
    else:
        print(_figures(model.evaluate(*samples.part(samples.test))), _held_out(samples))
    return 0


def info_command(options):
    """Print the devices, or layers and plan."""
    if options.devices:
        for name in kernels.DEVICES:
            print(f"{name}: {_description(name)}")
    if options.model is None:
        if not options.devices:
            raise ValueError("info needs a model's file, or --devices")
        return 0
    model = nn.load(options.model)
    print(model)
    print()
    print(model.plan(options.mode or ("predict" if model.loss is None else model.optimizer.mode), options.batch_size))
    return 0


def _description(device):
    """What a device is, or why it cannot be used."""
    try:
        return kernels.load(device).describe()
    except kernels.DeviceError as problem:
        return str(problem)


def warmup_command(options):
    """Compile all kernels."""
    began = time.perf_counter()
    count = nn.warmup()
    print(f"{count} kernels and loops compiled, all are on disk now; {time.perf_counter() - began:.1f} s")
    return 0
