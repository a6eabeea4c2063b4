"""Bad input to the public functions raises one error with who, expected and got, before any step is done."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import threading
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EIGHT_GAUSSIANS, plane_recipe
from PIL import Image
from torch import Tensor, nn

import oodlab
from oodlab import data, detectors, grids, metrics, samplers, widgets, workspace
from oodlab.batch.notebook import Notebook, Parameter, UsageError, choose, resolve
from oodlab.detectors import NotFittedError
from oodlab.models import (
    MLP,
    Autoencoder,
    ImageGenerator,
    JointEnergy,
    NoisyGenerator,
    ResidualMLP,
    TableGenerator,
    VariationalAutoencoder,
    WideResNet,
    approximate_mass,
    image_realnvp,
    vector_realnvp,
)
from oodlab.objectives import (
    ContrastiveDivergence,
    FromData,
    Joint,
    NormalizedLikelihood,
    PenalisedLikelihood,
    SlicedScoreMatching,
    VariationalLikelihood,
    cost_of_alpha,
    reconstruction,
)
from oodlab.samplers import replay
from oodlab.studies.nae.eight_gaussians.panel import eight_gaussians_panel
from oodlab.training import (
    Adam,
    Fresh,
    Guard,
    LinearTail,
    Shuffled,
    Transformed,
    fit,
    train_or_load,
    train_or_load_all,
    train_or_load_in_parallel,
)

nan, inf = math.nan, math.inf
X = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
XI = torch.zeros(20, 1, 8, 8, dtype=torch.uint8)
Y = torch.arange(20) % 2
PRESET = plane_recipe("AE, D_z = 3")
CHAIN = samplers.LangevinChain(1, 0.1, 0.1)


def holed(*places: int, value: float = nan) -> Tensor:
    """Return X with entries that are not finite."""
    x = X.clone()
    x.view(-1)[list(places)] = value
    return x


def ae() -> Autoencoder:
    return Autoencoder(MLP(2, [4], 3), MLP(3, [4], 2), latent=3)


def no_step(*_: object, **__: object) -> dict[str, Tensor]:
    raise AssertionError("a step of training was begun")


def run(model: nn.Module | None = None, objective: object = no_step, batches: object = None, **options: object) -> None:
    """Train as a user would, with one thing wrong."""
    settings = {"optimiser": Adam(lr=1e-3), "steps": 2, "device": "cpu", "show_progress": False, **options}
    fit(model or ae(), objective, Shuffled(X, None, 5, 0) if batches is None else batches, **settings)


def joint_run(y: Tensor | None) -> None:
    classifier = JointEnergy(MLP(2, [4], 2, nn.SiLU))
    run(classifier, Joint(ContrastiveDivergence(FromData(CHAIN)), gamma=1.0), Shuffled(X, y, 5, 0))


def langevin(x: object = X, **options: object) -> None:
    samplers.langevin(lambda x: -x, x, **{"steps": 2, "step_size": 0.1, **options})


def mala(x: object = X, **options: object) -> None:
    samplers.mala(lambda x: -x.square().sum(1) / 2, x, **{"steps": 2, "step_size": 0.1, **options})


def buffer(capacity: object = 4, shape: object = (2,), **options: object) -> replay.ReplayBuffer:
    settings = {"start": replay.Uniform(-1.0, 1.0), "restart": 0.1, "fifo": True, **options}
    return replay.ReplayBuffer(capacity, shape, **settings)


def vera(**options: object) -> None:
    VariationalLikelihood(
        **{"entropy_weight": 1.0, "proposals": 2, "gradient_penalty": 0.1, "std_bounds": (0.1, 0.3), **options}
    )


def flow() -> nn.Module:
    return vector_realnvp(2, couplings=2, hidden=(4,))


def parameter(given: str) -> None:
    """Give a notebook with a few parameters a value, as by -p."""
    known = (
        Parameter("profile", "quick", "", ("smoke", "quick", "long", "full")),
        Parameter("gamma", 1.0, "", (), (0.0, 100.0)),
        Parameter("steps", 3, "", (), (1, 10)),
    )
    resolve(Notebook("ebm/a", Path("a.ipynb"), "A", {p.name: p for p in known}, (), False, "", {}), [given])


def panel_run(**values: object) -> None:
    """Run the panel of eight Gaussians with values that its sliders would not give."""
    panel = eight_gaussians_panel()
    own = {name: widget.value for name, widget in panel.controls.items()}
    panel._task({**own, **values}, lambda: False, lambda *_: None)


def pictures(folder: str, size: object) -> None:
    """Read a folder of pictures with a class that has none."""
    Path(folder, "cats").mkdir(parents=True)
    Path(folder, "dogs").mkdir()
    Image.new("L", (8, 8)).save(Path(folder, "cats", "1.png"))
    data.from_folder(folder, size)


# what the user did: (call, who expects what, what it got, and any more words; another exception than ValueError first)
# fmt: off
ROWS: dict[str, tuple] = {
    "load None": (lambda: data.load(None), "load expects the name of a set or a path", "got NoneType"),
    "load int": (lambda: data.load(3), "load expects the name of a set or a path", "got int"),
    "load typo": (lambda: data.load('mnst'), "data expects the name of a set", "got 'mnst'"),
    "load empty": (lambda: data.load(''), "data expects the name of a set", "got ''"),
    "load split typo": (lambda: data.load('digits','tset'), "load expects a split of train, val, train-val, test or all", "got 'tset'"),
    "load split None": (lambda: data.load('digits',None), "load expects a split of train, val, train-val, test or all", "got None"),
    "load split list": (lambda: data.load('digits',['train']), "load expects a split of train, val, train-val, test or all", "got ['train']"),
    "load without range10": (lambda: data.load('digits','train',without=range(10)), "load expects at most 9 of the 10 classes in without", "got 10"),
    "load without 77": (lambda: data.load('digits','train',without=77), "load expects classes of the set", "got [77]"),
    "load without typo": (lambda: data.load('digits','train',without='sevn'), "load expects a class of the set", "got 'sevn'"),
    "load without None": (lambda: data.load('digits','train',without=None), "load expects classes by number or name", "got None"),
    "load without 1.5": (lambda: data.load('digits','train',without=1.5), "load expects classes by number or name", "got 1.5"),
    "load without [1.5]": (lambda: data.load('digits','train',without=[1.5]), "load expects classes by number or name", "got 1.5"),
    "load without True": (lambda: data.load('digits','train',without=True), "load expects classes by number or name", "got True"),
    "load only 11": (lambda: data.load('digits','train',only=11), "load expects classes of the set", "got [11]"),
    "load n too large": (lambda: data.load('digits','train',n=10**6), "load expects n <= 1439", "got 1000000"),
    "load n 0": (lambda: data.load('digits','train',n=0), "load expects n >= 1", "got 0"),
    "load n -1": (lambda: data.load('digits','train',n=-1), "load expects n >= 1", "got -1"),
    "load n 1.5": (lambda: data.load('digits','train',n=1.5), "load expects n >= 1", "got 1.5"),
    "load n str": (lambda: data.load('digits','train',n='10'), "load expects n >= 1", "got '10'"),
    "load n True": (lambda: data.load('digits','train',n=True), "load expects n >= 1", "got True"),
    "load seed -1": (lambda: data.load('digits','train',n=5,seed=-1), "load expects 0 <= seed <= 4294967295", "got -1"),
    "load seed a": (lambda: data.load('digits','train',n=5,seed='a'), "load expects 0 <= seed <= 4294967295", "got 'a'"),
    "load seed 1.5": (lambda: data.load('digits','train',n=5,seed=1.5), "load expects 0 <= seed <= 4294967295", "got 1.5"),
    "load seed None": (lambda: data.load('digits','train',n=5,seed=None), "load expects 0 <= seed <= 4294967295", "got None"),
    "load balanced str": (lambda: data.load('digits','train',n=10,balanced='yes'), "load expects balanced True or False", "got 'yes'"),
    "load size with npz name": (lambda: data.load('digits','train',size=3), "load expects size with a folder of pictures only", "got size=3"),
    "arrays zero rows": (lambda: data.from_arrays(np.zeros((0,3))), "from_arrays(arrays) expects x of shape (N, D), (N, H, W), (N, H, W, C) or (N, C, H, W),", "got (0, 3)"),
    "arrays None": (lambda: data.from_arrays(None), "from_arrays(arrays) expects x of shape (N, D), (N, H, W), (N, H, W, C) or (N, C, H, W),", "got ()"),
    "arrays list of str": (lambda: data.from_arrays([['a','b']]), "from_arrays(arrays) expects a table of real numbers", "got dtype <U1"),
    "arrays ragged": (lambda: data.from_arrays([[1.,2.],[3.]]), "from_arrays(arrays) expects x as one array", "got list"),
    "arrays float images": (lambda: data.from_arrays(np.random.rand(3,8,8)), "from_arrays(arrays) expects images as uint8 values 0..255", "got float64"),
    "arrays int64 images": (lambda: data.from_arrays(np.random.randint(0,255,(3,8,8))), "from_arrays(arrays) expects images as uint8 values 0..255", "got int64"),
    "arrays nan": (lambda: data.from_arrays(holed(3)), "from_arrays(arrays) expects finite numbers", "got 1 NaN or infinite entries"),
    "arrays bool table": (lambda: data.from_arrays(X>0), "from_arrays(arrays) expects a table of real numbers", "got dtype bool"),
    "arrays complex": (lambda: data.from_arrays(X.to(torch.complex64)), "from_arrays(arrays) expects a table of real numbers", "got dtype complex64"),
    "arrays y len": (lambda: data.from_arrays(X,Y[:5]), "from_arrays(arrays) expects y as 20 integers, one per item of x", "got int64 (5,)"),
    "arrays y float": (lambda: data.from_arrays(X,Y.float()), "from_arrays(arrays) expects y as 20 integers, one per item of x", "got float32 (20,)"),
    "arrays y str": (lambda: data.from_arrays(X,['a']*20,class_names=('b',)), "from_arrays(arrays) expects labels that are class names", "got ['a']"),
    "arrays masked": (lambda: data.from_arrays(np.ma.masked_less(X.numpy(),0)), "from_arrays(arrays) expects x as one array", "masked entries"),
    "arrays one picture": (lambda: data.from_arrays(np.zeros((32,32,3),np.uint8)), "from_arrays(arrays) expects images", "got (32, 32, 3)", "x[None]"),
    "arrays times": (lambda: data.from_arrays(1.7e9+X.double()), "from_arrays(arrays) expects columns whose differences float32 can hold", "got columns 0, 1"),
    "arrays y uint64": (lambda: data.from_arrays(X,np.full(20,2**63,np.uint64)), "from_arrays(arrays) expects labels that int64 can hold", "got 9223372036854775808"),
    "arrays y -2": (lambda: data.from_arrays(X,Y-2), "from_arrays(arrays) expects y >= 0, or -1 for an item without a class", "got -2"),
    "arrays class_names few": (lambda: data.from_arrays(X,Y,class_names=('a',)), "from_arrays(arrays) expects a name for each class 0..1", "got 1 in class_names"),
    "arrays class_names str": (lambda: data.from_arrays(X,Y,class_names='ab'), "from_arrays expects name as text and class_names as several texts", "got 'arrays' and 'ab'"),
    "folder typo": (FileNotFoundError, lambda: data.from_folder('/nonexistent'), "from_folder expects a folder of pictures", "got /nonexistent"),
    "folder None": (lambda: data.from_folder(None), "from_folder expects a path", "got NoneType"),
    "folder size 0": (lambda: pictures('own', 0), "from_folder expects size >= 1", "got 0"),
    "folder size -3": (lambda: pictures('own', -3), "from_folder expects size >= 1", "got -3"),
    "folder size str": (lambda: pictures('own', '32'), "from_folder expects size >= 1", "got '32'"),
    "folder size 1.5": (lambda: pictures('own', 1.5), "from_folder expects size >= 1", "got 1.5"),
    "folder empty class": (lambda: pictures('own', None), "own expects a picture in every class", "got none in dogs"),
    "scale_signed float": (lambda: data.scale_signed(X), "scale_signed expects stored uint8 values", "got torch.float32 (20, 2)"),
    "scale_signed numpy": (lambda: data.scale_signed(XI.numpy()), "scale_signed expects stored uint8 values", "got ndarray"),
    "dequantize float": (lambda: data.dequantize(X), "dequantize expects stored uint8 values", "got torch.float32 (20, 2)"),
    "bin_center None": (lambda: data.bin_center(None), "bin_center expects stored uint8 values", "got NoneType"),
    "as_shape": (lambda: data.as_shape(XI,(2,8,8)), "as_shape expects images with 1 or 3 channels and a shape (C, H, W)", "got (20, 1, 8, 8) and (2, 8, 8)"),
    "as_shape short": (lambda: data.as_shape(XI,(8,8)), "as_shape expects a shape (C, H, W)", "got (8, 8)"),
    "to_uint8 nan": (FloatingPointError, lambda: data.to_uint8(holed(1)), "to_uint8 expects finite w", "got 1 of 40 NaN or infinite"),
    "to_uint8 int": (lambda: data.to_uint8(XI), "to_uint8 expects w in [0, 1) as floats", "got torch.uint8 (20, 1, 8, 8)"),
    "minmax const": (lambda: data.MinMax.fit(torch.ones(3,2)), "MinMax expects columns that vary", "got constant columns [0, 1]"),
    "minmax low>high": (lambda: data.MinMax.fit(X,1,-1), "MinMax expects high > 1", "got -1"),
    "minmax cols": (lambda: data.MinMax.fit(X)(torch.randn(3,5)), "MinMax expects a table of floats (N, 2), as it was fitted", "got torch.float32 (3, 5)"),
    "minmax empty": (lambda: data.MinMax.fit(X[:0]), "MinMax expects rows", "got torch.float32 (0, 2)"),
    "dropconst empty": (lambda: data.DropConstant.fit(X[:0]), "DropConstant expects rows", "got torch.float32 (0, 2)"),
    "augment flip 2": (lambda: data.Augment(flip=2.), "Augment expects 0 <= flip <= 1", "got 2"),
    "augment noise nan": (lambda: data.Augment(noise_std=nan), "Augment expects noise_std >= 0", "got nan"),
    "augment noise -1": (lambda: data.Augment(noise_std=-1.), "Augment expects noise_std >= 0", "got -1"),
    "augment shift 1.5": (lambda: data.Augment(shift=1.5), "Augment expects shift >= 0", "got 1.5"),
    "augment degrees str": (lambda: data.Augment(degrees='10'), "Augment expects degrees >= 0", "got '10'"),
    "eight n -1": (lambda: data.eight_gaussians(-1), "eight_gaussians expects n >= 0", "got -1"),
    "eight n str": (lambda: data.eight_gaussians('3'), "eight_gaussians expects n >= 0", "got '3'"),
    "smooth k": (lambda: data.smoothness_images(3,(1,8,8),9), "smoothness_images expects 1 <= k <= 8", "got 9"),
    "smooth k float": (lambda: data.smoothness_images(3,(1,8,8),2.5), "smoothness_images expects 1 <= k <= 8", "got 2.5"),
    "chimera one class": (lambda: data.chimera_digits(XI,Y*0), "chimera_digits expects at least two classes", "got labels [0]"),
    "chimera len": (lambda: data.chimera_digits(XI,Y[:3]), "chimera_digits expects one label per image", "got (3,) for 20 images"),
    "logit_forward c": (lambda: data.logit_forward(X.sigmoid(),c=2.), "logit_forward expects 0 < c < 1", "got 2"),
    "fit steps 0": (lambda: run(steps=0), "fit expects steps >= 1", "got 0"),
    "fit steps -1": (lambda: run(steps=-1), "fit expects steps >= 1", "got -1"),
    "fit steps 1.5": (lambda: run(steps=1.5), "fit expects steps >= 1", "got 1.5"),
    "fit steps str": (lambda: run(steps='2'), "fit expects steps >= 1", "got '2'"),
    "fit steps True": (lambda: run(steps=True), "fit expects steps >= 1", "got True"),
    "fit epochs -1": (lambda: run(steps=None,epochs=-1), "fit expects epochs >= 1", "got -1"),
    "fit epochs 1.5": (lambda: run(steps=None,epochs=1.5), "fit expects epochs >= 1", "got 1.5"),
    "fit seed -1": (lambda: run(seed=-1), "fit expects seed >= 0", "got -1"),
    "fit seed a": (lambda: run(seed='a'), "fit expects seed >= 0", "got 'a'"),
    "fit seed 1.5": (lambda: run(seed=1.5), "fit expects seed >= 0", "got 1.5"),
    "fit seed None": (lambda: run(seed=None), "fit expects seed >= 0", "got None"),
    "fit warm_up -1": (lambda: run(warm_up=-1), "fit expects warm_up >= 0", "got -1"),
    "fit warm_up str": (lambda: run(warm_up='a'), "fit expects warm_up >= 0", "got 'a'"),
    "fit device gpu": (lambda: run(device='gpu'), "device expects 'auto', 'cpu' or 'cuda'", "got 'gpu'"),
    "fit device None": (lambda: run(device=None), "device expects 'auto', 'cpu' or 'cuda'", "got None"),
    "fit device meta": (lambda: run(device='meta'), "device expects 'auto', 'cpu' or 'cuda'", "got 'meta'"),
    "fit precision fp16": (lambda: run(precision='fp16'), "precision expects one of auto, float32 or bfloat16", "got 'fp16'"),
    "fit precision None": (lambda: run(precision=None), "precision expects one of auto, float32 or bfloat16", "got None"),
    "fit lr -1": (lambda: run(optimiser=Adam(lr=-1.)), "Adam expects lr >= 0", "got -1"),
    "fit lr nan": (lambda: run(optimiser=Adam(lr=nan)), "Adam expects lr >= 0", "got nan"),
    "fit lr inf": (lambda: run(optimiser=Adam(lr=inf)), "Adam expects lr >= 0", "got inf"),
    "fit lr str": (lambda: run(optimiser=Adam(lr='1e-3')), "Adam expects lr >= 0", "got '1e-3'"),
    "fit lr_of nan": (lambda: run(optimiser=Adam(lr=1e-3,lr_of={'encoder':nan})), "Adam expects lr of 'encoder' >= 0", "got nan"),
    "fit lr_of -1": (lambda: run(optimiser=Adam(lr=1e-3,lr_of={'encoder':{'lr':-1}})), "Adam expects lr of 'encoder' >= 0", "got -1"),
    "fit sgd lr nan": (lambda: run(optimiser=lambda m:torch.optim.SGD(m.parameters(),lr=nan)), "fit expects the optimiser's learning rate >= 0", "got nan"),
    "fit optimiser instance": (lambda: run(optimiser=torch.optim.Adam([torch.zeros(1,requires_grad=True)])), "fit expects optimiser to be a function", "got Adam"),
    "fit objective str": (lambda: run(objective='cd'), "fit expects objective to be a function", "got str"),
    "fit batches tensor": (lambda: run(batches=X), "fit expects batches to be a function", "got Tensor"),
    "fit model None": (lambda: fit(None, no_step, Shuffled(X, None, 5, 0), optimiser=Adam(lr=1e-3), steps=1), "fit expects model to be a torch module", "got NoneType"),
    "fit checkpoint_every -1": (lambda: run(checkpoint_every=-1), "fit expects checkpoint_every >= 1", "got -1"),
    "fit checkpoint_every 0": (lambda: run(checkpoint_every=0), "fit expects checkpoint_every >= 1", "got 0"),
    "fit checkpoint_every 1.5": (lambda: run(checkpoint_every=1.5), "fit expects checkpoint_every >= 1", "got 1.5"),
    "fit probes": (lambda: run(probes=3), "fit expects a probe and 1 to 2 probes, or neither", "got 3"),
    "fit schedule float": (lambda: run(schedule=.5), "fit expects schedule to be a function", "got float"),
    "fit probe str": (lambda: run(probe='codes',probes=1), "fit expects probe to be a function", "got str"),
    "fit probe dict alone": (lambda: run(probe={}), "fit expects probe to be a function", "got dict"),
    "fit should_stop False": (lambda: run(should_stop=False), "fit expects should_stop to be a function", "got bool"),
    "fit should_stop event": (lambda: run(should_stop=threading.Event()), "fit expects should_stop to be a function", "got Event", "threading.Event().is_set"),
    "fit on_step list": (lambda: run(on_step=[]), "fit expects on_step to be a function", "got list"),
    "fit guard dict": (lambda: run(guard={'limit':3}), "fit expects guard to be a Guard", "got dict"),
    "guard limit nan": (lambda: run(guard=Guard(limit=nan)), "Guard expects limit > 0", "got nan"),
    "guard factor 2": (lambda: run(guard=Guard(factor=2.)), "Guard expects 0 < factor <= 1", "got 2"),
    "guard factor -1": (lambda: run(guard=Guard(factor=-1.)), "Guard expects 0 < factor <= 1", "got -1"),
    "guard patience -1": (lambda: run(guard=Guard(patience=-1)), "Guard expects patience >= 0", "got -1"),
    "tail nan": (lambda: LinearTail(nan), "LinearTail expects 0 <= start <= 1", "got nan"),
    "tail str": (lambda: LinearTail('0.5'), "LinearTail expects 0 <= start <= 1", "got '0.5'"),
    "shuffled nan": (FloatingPointError, lambda: run(batches=Shuffled(holed(7),None,5,0)), "Shuffled expects finite numbers", "got NaN or infinite entries in 1 of 20 items"),
    "shuffled inf": (FloatingPointError, lambda: run(batches=Shuffled(holed(7, value=inf),None,5,0)), "Shuffled expects finite numbers", "got NaN or infinite entries in 1 of 20 items"),
    "shuffled numpy": (lambda: run(batches=Shuffled(X.numpy(),None,5,0)), "Shuffled expects x as a tensor (N, *event)", "got ndarray"),
    "shuffled int64": (lambda: run(batches=Shuffled(torch.ones(20,2,dtype=torch.int64),None,5,0)), "fit expects batches of torch.float32, as the model's weights are", "got torch.int64"),
    "shuffled uint8": (lambda: run(batches=Shuffled(torch.ones(20,2,dtype=torch.uint8),None,5,0)), "fit expects batches of torch.float32, as the model's weights are", "got torch.uint8"),
    "shuffled float64": (lambda: run(batches=Shuffled(X.double(),None,5,0)), "fit expects batches of torch.float32, as the model's weights are", "got torch.float64"),
    "shuffled bool": (lambda: run(batches=Shuffled(X>0,None,5,0)), "fit expects batches of torch.float32, as the model's weights are", "got torch.bool"),
    "shuffled y len": (lambda: run(batches=Shuffled(X,Y[:7],5,0)), "Shuffled expects y as int64 labels (20,), one per item of x", "got torch.int64 (7,)"),
    "shuffled y float": (lambda: run(batches=Shuffled(X,Y.float(),5,0)), "Shuffled expects y as int64 labels (20,), one per item of x", "got torch.float32 (20,)"),
    "shuffled y 2d": (lambda: run(batches=Shuffled(X,Y[:,None],5,0)), "Shuffled expects y as int64 labels (20,), one per item of x", "got torch.int64 (20, 1)"),
    "shuffled bs 0": (lambda: Shuffled(X,None,0,0), "Shuffled expects 1 <= batch_size <= 20", "got 0"),
    "shuffled bs str": (lambda: Shuffled(X,None,'5',0), "Shuffled expects 1 <= batch_size <= 20", "got '5'"),
    "shuffled bs 2.5": (lambda: run(batches=Shuffled(X,None,2.5,0)), "Shuffled expects 1 <= batch_size <= 20", "got 2.5"),
    "shuffled seed a": (lambda: run(batches=Shuffled(X,None,5,'a')), "Shuffled expects seed >= 0", "got 'a'"),
    "shuffled seed -1": (lambda: run(batches=Shuffled(X,None,5,-1)), "Shuffled expects seed >= 0", "got -1"),
    "shuffled split": (lambda: run(batches=Shuffled(data.from_arrays(X),None,5,0)), "Shuffled expects x as a tensor (N, *event)", "got Split"),
    "shuffled shape statistics": (lambda: run(JointEnergy(nn.Sequential(nn.BatchNorm1d(2),nn.Linear(2,2))),batches=Shuffled(torch.randn(20,5),None,5,0)), "fit expects inputs that JointEnergy takes", "got (5,) for each", "should contain 5 elements"),
    "shuffled shape channels": (lambda: run(JointEnergy(nn.Sequential(nn.Conv2d(3,2,8),nn.Flatten())),batches=Shuffled(torch.randn(20,1,8,8),None,5,0)), "fit expects inputs that JointEnergy takes", "got (1, 8, 8) for each", "to have 3 channels"),
    "shuffled shape": (lambda: run(batches=Shuffled(torch.randn(20,5),None,5,0)), "fit expects inputs that Autoencoder takes", "got (5,) for each"),
    "fresh nan": (FloatingPointError, lambda: run(batches=Fresh(lambda n,g:torch.full((n,2),nan),5)), "fit expects finite numbers", "got NaN or infinite entries in 5 of 5 inputs"),
    "fresh bs 0": (lambda: run(batches=Fresh(data.eight_gaussians,0)), "Fresh expects batch_size >= 1", "got 0"),
    "fresh bs -1": (lambda: run(batches=Fresh(data.eight_gaussians,-1)), "Fresh expects batch_size >= 1", "got -1"),
    "fresh bs str": (lambda: run(batches=Fresh(data.eight_gaussians,'5')), "Fresh expects batch_size >= 1", "got '5'"),
    "fresh draw None": (lambda: run(batches=Fresh(None,5)), "Fresh expects draw to be a function", "got NoneType"),
    "fresh returns numpy": (lambda: run(batches=Fresh(lambda n,g:np.zeros((n,2),dtype=np.float32),5)), "fit expects batches as named tensors with 'x' among them", "got {'x': 'ndarray'}"),
    "fresh returns int64": (lambda: run(batches=Fresh(lambda n,g:torch.ones(n,2,dtype=torch.int64),5)), "fit expects batches of torch.float32, as the model's weights are", "got torch.int64"),
    "fresh double": (lambda: run(batches=Fresh(lambda n,g:torch.ones(n,2,dtype=torch.float64),5)), "fit expects batches of torch.float32, as the model's weights are", "got torch.float64"),
    "fresh ignores n": (lambda: run(batches=Fresh(lambda n,g:torch.ones(0,2),5)), "fit expects batches with inputs", "got shape (0, 2)"),
    "transformed nan": (FloatingPointError, lambda: run(batches=Transformed(Shuffled(X,None,5,0),lambda x,g:x/0*0)), "fit expects finite numbers", "got NaN or infinite entries in 5 of 5 inputs"),
    "transformed None": (lambda: run(batches=Transformed(Shuffled(X,None,5,0),None)), "Transformed expects transform to be a function", "got NoneType"),
    "transformed source": (lambda: run(batches=Transformed(X,lambda x,g:x)), "Transformed expects batches to be a function", "got Tensor"),
    "joint labels out of range": (lambda: joint_run(Y+7), "Joint expects labels 0..1, one per output of the classifier", "got [7, 8]"),
    "joint labels -1": (lambda: joint_run(Y*0-1), "Joint expects labels 0..1, one per output of the classifier", "got [-1]"),
    "joint no labels": (lambda: joint_run(None), "Joint expects labels when gamma > 0", "got none"),
    "joint gamma nan": (lambda: Joint(reconstruction,gamma=nan), "Joint expects gamma >= 0", "got nan"),
    "joint gamma inf": (lambda: Joint(reconstruction,gamma=inf), "Joint expects gamma >= 0", "got inf"),
    "joint gamma -1": (lambda: Joint(reconstruction,gamma=-1.), "Joint expects gamma >= 0", "got -1"),
    "joint gamma str": (lambda: Joint(reconstruction,gamma='1'), "Joint expects gamma >= 0", "got '1'"),
    "joint gamma None": (lambda: Joint(reconstruction,gamma=None), "Joint expects gamma >= 0", "got None"),
    "joint entropy nan": (lambda: Joint(reconstruction,gamma=1.,entropy_weight=nan), "Joint expects entropy_weight >= 0", "got nan"),
    "alpha inf": (lambda: PenalisedLikelihood(inf), "PenalisedLikelihood expects alpha >= 0", "got inf"),
    "alpha nan": (lambda: PenalisedLikelihood(nan), "PenalisedLikelihood expects alpha >= 0", "got nan"),
    "alpha -1": (lambda: PenalisedLikelihood(-1.), "PenalisedLikelihood expects alpha >= 0", "got -1"),
    "alpha str": (lambda: PenalisedLikelihood('2'), "PenalisedLikelihood expects alpha >= 0", "got '2'"),
    "alpha eps 0": (lambda: PenalisedLikelihood(1.,eps=-1.), "PenalisedLikelihood expects eps >= 0", "got -1"),
    "alpha space": (lambda: PenalisedLikelihood(1.,space='pixels'), "PenalisedLikelihood expects space input, pixel or logit", "got 'pixels'"),
    "cost reduction": (lambda: cost_of_alpha(3.5,alpha=2.,dims=4,reduction='mean'), "cost_of_alpha expects reduction per_sample, batch or released", "got 'mean'"),
    "cost batch": (lambda: cost_of_alpha(3.5,alpha=2.,dims=4,reduction='batch',batch_size=0), "cost_of_alpha expects batch_size >= 1", "got 0"),
    "alpha reduction": (lambda: PenalisedLikelihood(1.,'mean'), "PenalisedLikelihood expects reduction per_sample, batch or released", "got 'mean'"),
    "cd l2 nan": (lambda: ContrastiveDivergence(FromData(samplers.LangevinChain(1,.1)),l2=nan), "ContrastiveDivergence expects l2 >= 0", "got nan"),
    "cd l2 -1": (lambda: ContrastiveDivergence(FromData(samplers.LangevinChain(1,.1)),l2=-1.), "ContrastiveDivergence expects l2 >= 0", "got -1"),
    "nl penalty nan": (lambda: NormalizedLikelihood(FromData(samplers.LangevinChain(1,.1)),energy_penalty=nan), "NormalizedLikelihood expects energy_penalty >= 0", "got nan"),
    "nl penalty -1": (lambda: NormalizedLikelihood(FromData(samplers.LangevinChain(1,.1)),latent_penalty=-1.), "NormalizedLikelihood expects latent_penalty >= 0", "got -1"),
    "ssm 0": (lambda: SlicedScoreMatching(projections=0), "SlicedScoreMatching expects projections >= 1", "got 0"),
    "ssm 1.5": (lambda: SlicedScoreMatching(projections=1.5), "SlicedScoreMatching expects projections >= 1", "got 1.5"),
    "ssm str": (lambda: SlicedScoreMatching(projections='1'), "SlicedScoreMatching expects projections >= 1", "got '1'"),
    "vera nan": (lambda: vera(entropy_weight=nan,proposals=2,gradient_penalty=.1,std_bounds=(.1,.3)), "VariationalLikelihood expects entropy_weight >= 0", "got nan"),
    "vera inf": (lambda: vera(entropy_weight=inf,proposals=2,gradient_penalty=.1,std_bounds=(.1,.3)), "VariationalLikelihood expects entropy_weight >= 0", "got inf"),
    "vera proposals": (lambda: vera(entropy_weight=1.,proposals=0,gradient_penalty=.1,std_bounds=(.1,.3)), "VariationalLikelihood expects proposals >= 1", "got 0"),
    "vera proposals 1.5": (lambda: vera(entropy_weight=1.,proposals=1.5,gradient_penalty=.1,std_bounds=(.1,.3)), "VariationalLikelihood expects proposals >= 1", "got 1.5"),
    "vera bounds": (lambda: vera(entropy_weight=1.,proposals=2,gradient_penalty=.1,std_bounds=(.3,.1)), "VariationalLikelihood expects the highest std >= 0.3", "got 0.1"),
    "vera bounds nan": (lambda: vera(entropy_weight=1.,proposals=2,gradient_penalty=.1,std_bounds=(.1,nan)), "VariationalLikelihood expects the highest std >= 0.1", "got nan"),
    "chain str": (lambda: FromData('langevin'), "FromData expects chain to be a function", "got str"),
    "lang steps -1": (lambda: langevin(steps=-1), "langevin expects steps >= 0", "got -1"),
    "lang steps 1.5": (lambda: langevin(steps=1.5), "langevin expects steps >= 0", "got 1.5"),
    "lang step nan": (lambda: langevin(step_size=nan), "langevin expects step_size > 0", "got nan"),
    "lang step inf": (lambda: langevin(step_size=inf), "langevin expects step_size > 0", "got inf"),
    "lang step str": (lambda: langevin(step_size='0.1'), "langevin expects step_size > 0", "got '0.1'"),
    "lang step 0": (lambda: langevin(step_size=0), "langevin expects step_size > 0", "got 0"),
    "lang noise nan": (lambda: langevin(noise_std=nan), "langevin expects noise_std >= 0", "got nan"),
    "lang noise inf": (lambda: langevin(noise_std=inf), "langevin expects noise_std >= 0", "got inf"),
    "lang noise -1": (lambda: langevin(noise_std=-1), "langevin expects noise_std >= 0", "got -1"),
    "lang noise str": (lambda: langevin(noise_std='a'), "langevin expects noise_std >= 0", "got 'a'"),
    "lang int x": (lambda: langevin(x=torch.ones(3,2,dtype=torch.int64)), "langevin expects a start of floating-point numbers (B, *event)", "got torch.int64 (3, 2)"),
    "lang numpy x": (lambda: langevin(x=X.numpy()), "langevin expects a start of floating-point numbers (B, *event)", "got ndarray"),
    "lang scalar": (lambda: langevin(x=torch.tensor(1.)), "langevin expects a start of floating-point numbers (B, *event)", "got torch.float32 ()"),
    "mala steps -1": (lambda: mala(steps=-1), "mala expects steps >= 0", "got -1"),
    "mala noise 0": (lambda: mala(noise_std=0.), "mala expects noise_std > 0", "got 0"),
    "mala noise nan": (lambda: mala(noise_std=nan), "mala expects noise_std >= 0", "got nan"),
    "mala noise inf": (lambda: mala(noise_std=inf), "mala expects noise_std >= 0", "got inf"),
    "mala int x": (lambda: mala(x=torch.ones(3,2,dtype=torch.int64)), "mala expects a start of floating-point numbers (B, *event)", "got torch.int64 (3, 2)"),
    "mala bounds Box": (lambda: mala(bounds=samplers.Box(-1,1)), "mala expects bounds of type RejectOutside", "got Box(low=-1, high=1)"),
    "LangevinChain step nan": (lambda: samplers.LangevinChain(2,nan), "LangevinChain expects step_size > 0", "got nan"),
    "LangevinChain steps -1": (lambda: samplers.LangevinChain(-1,.1), "LangevinChain expects steps >= 0", "got -1"),
    "MalaChain noise -1": (lambda: samplers.MalaChain(2,.1,-1.), "MalaChain expects noise_std >= 0", "got -1"),
    "Box": (lambda: samplers.Box(1,-1), "Box expects high > 1", "got -1"),
    "Box nan": (lambda: samplers.Box(nan,1), "Box expects a finite low", "got nan"),
    "RejectOutside": (lambda: samplers.RejectOutside(1,-1), "RejectOutside expects high > 1", "got -1"),
    "ClipElements -1": (lambda: samplers.ClipElements(-1.), "ClipElements expects limit > 0", "got -1"),
    "ClipRows 0": (lambda: samplers.ClipRows(0.0), "ClipRows expects limit > 0", "got 0"),
    "ClipNorm nan": (lambda: samplers.ClipNorm(nan), "ClipNorm expects limit > 0", "got nan"),
    "Annealed -1": (lambda: samplers.Annealed(-1.), "Annealed expects noise_std >= 0", "got -1"),
    "ChainRecord every 0": (lambda: langevin(record=samplers.ChainRecord(every=0)), "ChainRecord expects every >= 1", "got 0"),
    "rb cap 0": (lambda: buffer(capacity=0), "ReplayBuffer expects capacity >= 1", "got 0"),
    "rb cap 1.5": (lambda: buffer(capacity=1.5), "ReplayBuffer expects capacity >= 1", "got 1.5"),
    "rb restart 2": (lambda: buffer(restart=2.), "ReplayBuffer expects 0 <= restart <= 1", "got 2"),
    "rb restart nan": (lambda: buffer(restart=nan), "ReplayBuffer expects 0 <= restart <= 1", "got nan"),
    "rb classes 0": (lambda: buffer(classes=0,fifo=False), "ReplayBuffer expects classes >= 1", "got 0"),
    "rb classes": (lambda: buffer(classes=3,fifo=False), "ReplayBuffer expects a capacity that is a multiple of classes = 3", "got 4"),
    "rb fifo classes": (lambda: buffer(classes=2), "ReplayBuffer(fifo=True) expects classes = 1", "got 2"),
    "rb shape": (lambda: buffer(shape=3), "ReplayBuffer expects the shape of one state", "got 3"),
    "rb shape neg": (lambda: buffer(shape=(-1,)), "ReplayBuffer expects sizes in shape >= 1", "got -1"),
    "rb start": (lambda: buffer(start='uniform'), "ReplayBuffer expects start to be a function", "got str"),
    "rb write shape": (lambda: buffer().write(torch.randn(2,5),torch.zeros(2,dtype=torch.long)), "ReplayBuffer.write expects states of shape (2,)", "got (5,)"),
    "rb write many": (lambda: buffer().write(torch.randn(9,2),torch.zeros(9,dtype=torch.long)), "ReplayBuffer.write expects at most 4 states at once", "got 9"),
    "rb draw 0": (lambda: buffer().draw(0), "ReplayBuffer.draw expects n >= 1", "got 0"),
    "rb draw -1": (lambda: buffer().draw(-1), "ReplayBuffer.draw expects n >= 1", "got -1"),
    "rb draw y": (lambda: buffer().draw(2,y=Y[:2]), "ReplayBuffer.draw expects y exactly when it has classes", "got some"),
    "Uniform": (lambda: replay.Uniform(1,-1), "Uniform expects high > 1", "got -1"),
    "Uniform nan": (lambda: replay.Uniform(nan,1), "Uniform expects a finite low", "got nan"),
    "nae T 0": (lambda: Autoencoder(MLP(2,[4],3),MLP(3,[4],2),latent=3,temperature=0), "Autoencoder expects temperature > 0", "got 0"),
    "nae T nan": (lambda: Autoencoder(MLP(2,[4],3),MLP(3,[4],2),latent=3,temperature=nan), "Autoencoder expects temperature > 0", "got nan"),
    "nae T inf": (lambda: Autoencoder(MLP(2,[4],3),MLP(3,[4],2),latent=3,temperature=inf), "Autoencoder expects temperature > 0", "got inf"),
    "nae T str": (lambda: Autoencoder(MLP(2,[4],3),MLP(3,[4],2),latent=3,temperature='1'), "Autoencoder expects temperature > 0", "got '1'"),
    "nae encoder": (lambda: Autoencoder('mlp',MLP(3,[4],2),latent=3), "Autoencoder expects encoder to be a function", "got str"),
    "vae decoder": (lambda: VariationalAutoencoder(MLP(2,[4],6),None,latent=3), "VariationalAutoencoder expects decoder to be a function", "got NoneType"),
    "nae latent 0": (lambda: Autoencoder(MLP(2,[4],3),MLP(3,[4],2),latent=0), "Autoencoder expects latent >= 1", "got 0"),
    "vae samples 0": (lambda: VariationalAutoencoder(MLP(2,[4],6),MLP(3,[4],2),latent=3,samples=0), "VariationalAutoencoder expects samples >= 1", "got 0"),
    "vae latent": (lambda: VariationalAutoencoder(MLP(2,[4],6),MLP(3,[4],2),latent=-3), "VariationalAutoencoder expects latent >= 1", "got -3"),
    "mlp 0": (lambda: MLP(0,[4],3), "MLP expects inputs >= 1", "got 0"),
    "mlp -1": (lambda: MLP(2,[-4],3), "MLP expects widths in hidden >= 1", "got -4"),
    "mlp str": (lambda: MLP('2',[4],3), "MLP expects inputs >= 1", "got '2'"),
    "mlp hidden int": (lambda: MLP(2,4,3), "MLP expects hidden to be the widths of its layers", "got 4"),
    "mlp float": (lambda: MLP(2,[4.],3), "MLP expects widths in hidden >= 1", "got 4.0"),
    "resmlp": (lambda: ResidualMLP(2,3,width=0,hidden=3,blocks=1), "ResidualMLP expects width >= 1", "got 0"),
    "resmlp blocks -1": (lambda: ResidualMLP(2,3,width=3,hidden=3,blocks=-1), "ResidualMLP expects blocks >= 0", "got -1"),
    "wrn depth": (lambda: WideResNet(channels=1,outputs=3,depth=11), "WideResNet expects depth = 6 n + 4 with n >= 1", "got 11"),
    "wrn depth str": (lambda: WideResNet(channels=1,outputs=3,depth='10'), "WideResNet expects depth >= 10", "got '10'"),
    "wrn outputs 0": (lambda: WideResNet(channels=1,outputs=0), "WideResNet expects outputs >= 1", "got 0"),
    "wrn channels -1": (lambda: WideResNet(channels=-1,outputs=3), "WideResNet expects channels >= 1", "got -1"),
    "wrn width 0": (lambda: WideResNet(channels=1,outputs=3,width=0), "WideResNet expects width >= 1", "got 0"),
    "wrn bottleneck": (lambda: WideResNet(channels=1,outputs=3,bottleneck=2.), "Bottleneck expects 0 < share < 1", "got 2"),
    "wrn bottleneck nan": (lambda: WideResNet(channels=1,outputs=3,bottleneck=nan), "Bottleneck expects 0 < share < 1", "got nan"),
    "ImageGenerator side": (lambda: ImageGenerator(latent=2,channels=1,features=4,side=9), "ImageGenerator expects a side of 4 times a power of two", "got 9"),
    "ImageGenerator side str": (lambda: ImageGenerator(latent=2,channels=1,features=4,side='8'), "ImageGenerator expects side >= 1", "got '8'"),
    "ImageGenerator feat 0": (lambda: ImageGenerator(latent=2,channels=1,features=0,side=8), "ImageGenerator expects features >= 1", "got 0"),
    "TableGenerator 0": (lambda: TableGenerator(0,[4],2), "TableGenerator expects latent >= 1", "got 0"),
    "NoisyGenerator std": (lambda: NoisyGenerator(TableGenerator(2,[4],2),2,std=-1,proposal_std=.1), "NoisyGenerator expects std > 0", "got -1"),
    "NoisyGenerator std nan": (lambda: NoisyGenerator(TableGenerator(2,[4],2),2,std=nan,proposal_std=.1), "NoisyGenerator expects std > 0", "got nan"),
    "NoisyGenerator std inf": (lambda: NoisyGenerator(TableGenerator(2,[4],2),2,std=inf,proposal_std=.1), "NoisyGenerator expects std > 0", "got inf"),
    "NoisyGenerator latent 0": (lambda: NoisyGenerator(TableGenerator(2,[4],2),0,std=.1,proposal_std=.1), "NoisyGenerator expects latent >= 1", "got 0"),
    "realnvp scales": (lambda: image_realnvp((1,8,8),scales=0,blocks=1,width=4), "image_realnvp expects scales >= 1", "got 0"),
    "realnvp odd": (lambda: image_realnvp((1,9,9),scales=2,blocks=1,width=4), "image_realnvp expects H and W divisible by 2**(scales - 1) = 2", "got 9 x 9"),
    "realnvp shape": (lambda: image_realnvp((8,8),scales=2,blocks=1,width=4), "image_realnvp expects a shape (C, H, W)", "got (8, 8)"),
    "realnvp width 0": (lambda: image_realnvp((1,8,8),scales=2,blocks=1,width=0), "image_realnvp expects width >= 1", "got 0"),
    "realnvp scales str": (lambda: image_realnvp((1,8,8),scales='2',blocks=1,width=4), "image_realnvp expects scales >= 1", "got '2'"),
    "realnvp shape neg": (lambda: image_realnvp((0,8,8),scales=2,blocks=1,width=4), "image_realnvp expects sizes in shape >= 1", "got 0"),
    "vrealnvp dims": (lambda: vector_realnvp(1,couplings=2,hidden=(4,)), "vector_realnvp expects dims >= 2", "got 1"),
    "vrealnvp couplings -1": (lambda: vector_realnvp(2,couplings=-1,hidden=(4,)), "vector_realnvp expects couplings >= 0", "got -1"),
    "flow wrong shape": (lambda: vector_realnvp(2,couplings=2,hidden=(4,)).log_prob(torch.randn(3,5)), "Flow expects x of shape (B, 2)", "got (3, 5)"),
    "mass space": (lambda: approximate_mass(vector_realnvp(2,couplings=2,hidden=(4,)),X,space='pixels'), "log_prob_and_gradient expects space input, pixel or logit", "got 'pixels'"),
    "det str": (lambda: detectors.LogDensity('model'), "LogDensity expects a model with log_density(x)", "got str"),
    "det event_shape int": (lambda: detectors.LogDensity(ae(),event_shape=2).score_samples(X), "LogDensity expects event_shape to be the shape of one input", "got 2"),
    "det T 0": (lambda: detectors.LogSumExp(nn.Linear(2,2),temperature=0), "LogSumExp expects temperature > 0", "got 0"),
    "det T inf": (lambda: detectors.LogSumExp(nn.Linear(2,2),temperature=inf), "LogSumExp expects temperature > 0", "got inf"),
    "det T str": (lambda: detectors.LogSumExp(nn.Linear(2,2),temperature='1'), "LogSumExp expects temperature > 0", "got '1'"),
    "det space": (lambda: detectors.ApproximateMass(vector_realnvp(2,couplings=2,hidden=(4,)),space='pixels'), "ApproximateMass expects space input, pixel or logit", "got 'pixels'"),
    "det uint8": (lambda: detectors.LogDensity(ae()).score_samples(XI), "LogDensity expects a floating-point tensor", "got torch.uint8"),
    "det numpy": (lambda: detectors.LogDensity(ae()).score_samples(X.numpy()), "LogDensity expects a floating-point tensor", "got ndarray"),
    "det empty": (lambda: detectors.LogDensity(ae()).score_samples(X[:0]), "LogDensity expects x of shape (N, *event), N >= 1", "got (0, 2)"),
    "det 1d": (lambda: detectors.LogDensity(ae()).score_samples(X[0]), "LogDensity expects x of shape (N, *event), N >= 1", "got (2,)"),
    "det bs 0": (lambda: detectors.LogDensity(ae()).score_samples(X,batch_size=0), "LogDensity expects batch_size >= 1", "got 0"),
    "det bs 1.5": (lambda: detectors.LogDensity(ae()).score_samples(X,batch_size=1.5), "LogDensity expects batch_size >= 1", "got 1.5"),
    "det bs str": (lambda: detectors.LogDensity(ae()).score_samples(X,batch_size='a'), "LogDensity expects batch_size >= 1", "got 'a'"),
    "det shape no event": (lambda: detectors.LogDensity(ae()).score_samples(torch.randn(3,5)), "LogDensity expects inputs that Autoencoder takes", "got (5,) for each"),
    "typ not fitted": (NotFittedError, lambda: detectors.Typicality(ae()).score_samples(X), "Typicality expects fit before score_samples", "got no mean_nll_"),
    "typ fit uint8": (lambda: detectors.Typicality(ae()).fit(XI), "LogDensity expects a floating-point tensor", "got torch.uint8"),
    "logdensity of nonmodel": (lambda: detectors.LogDensity(nn.Linear(2,2)).score_samples(X), "LogDensity expects a model with log_density(x)", "got Linear"),
    "mass of nae": (lambda: detectors.ApproximateMass(ae()).score_samples(X), "ApproximateMass expects a model with log_prob(x)", "got Autoencoder"),
    "auroc empty": (lambda: metrics.auroc([],[2.]), "scores_in expects a non-empty (N,) array", "got shape (0,)"),
    "auroc 2d": (lambda: metrics.auroc([[1.]],[2.]), "scores_in expects a non-empty (N,) array", "got shape (1, 1)"),
    "auroc str": (lambda: metrics.auroc(['a'],[2.]), "scores_in expects a (N,) array of numbers", "got list"),
    "auroc None": (lambda: metrics.auroc(None,[2.]), "scores_in expects a non-empty (N,) array", "got shape ()"),
    "aupr positive": (lambda: metrics.aupr([1.],[2.],positive='ood'), "positive expects 'in' or 'out'", "got 'ood'"),
    "tnr 95": (lambda: metrics.tnr_at_tpr([1.],[2.],tpr=95), "threshold_at_tpr expects 0 < tpr <= 1", "got 95"),
    "tnr nan": (lambda: metrics.tnr_at_tpr([1.],[2.],tpr=nan), "threshold_at_tpr expects 0 < tpr <= 1", "got nan"),
    "tnr str": (lambda: metrics.tnr_at_tpr([1.],[2.],tpr='0.95'), "threshold_at_tpr expects 0 < tpr <= 1", "got '0.95'"),
    "bits dims 0": (lambda: metrics.bits_per_dim([1.],0), "bits_per_dim expects dims >= 1", "got 0"),
    "bits nan": (FloatingPointError, lambda: metrics.bits_per_dim([nan],2), "bits_per_dim expects finite log-densities", "got 1 of 1 that are not"),
    "bits str": (lambda: metrics.bits_per_dim([1.],'2'), "bits_per_dim expects dims >= 1", "got '2'"),
    "rank": (lambda: metrics.rank_correlation([1.,2.],[1.]), "rank_correlation expects scores of the same inputs", "got 2 and 1"),
    "boot level": (lambda: metrics.bootstrap_interval(metrics.auroc,[1.,2.],[1.],level=95), "bootstrap_interval expects 0 < level < 1", "got 95"),
    "boot resamples 0": (lambda: metrics.bootstrap_interval(metrics.auroc,[1.,2.],[1.],resamples=0), "bootstrap_interval expects resamples >= 1", "got 0"),
    "boot seed -1": (lambda: metrics.bootstrap_interval(metrics.auroc,[1.,2.],[1.],resamples=2,seed=-1), "bootstrap_interval expects seed >= 0", "got -1"),
    "boot seed a": (lambda: metrics.bootstrap_interval(metrics.auroc,[1.,2.],[1.],resamples=2,seed='a'), "bootstrap_interval expects seed >= 0", "got 'a'"),
    "boot metric": (lambda: metrics.bootstrap_interval('auroc',[1.,2.],[1.],resamples=2), "bootstrap_interval expects metric to be a function", "got str"),
    "bounds": (lambda: metrics.auroc_bounds(2.,3.), "auroc_bounds expects 0 <= tnr <= 1", "got 2"),
    "table": (lambda: metrics.ood_table({'a':[1.,2.]},in_set='b'), "ood_table expects scores of 'b'", "got ['a']"),
    "table alone": (lambda: metrics.ood_table({'a':[1.,2.]},in_set='a'), "ood_table expects an OOD set beside 'a'", "got none"),
    "reported paper": (lambda: metrics.reported('emb'), "reported expects a paper that rows of emb have", "got 'emb'"),
    "reported field": (lambda: metrics.reported('ebm',tabel='table5'), "reported expects table, method, setting, in_set, out_set or metric", "got 'tabel'"),
    "reported val": (lambda: metrics.reported('ebm',table='table55'), "reported expects a table that rows of ebm have", "got 'table55'"),
    "reported val int": (lambda: metrics.reported('ebm',table=5), "reported expects a table that rows of ebm have", "got 5"),
    "grid even": (lambda: grids.grid_points(10), "grid_points expects an odd number of at least 5 points", "got 10"),
    "grid str": (lambda: grids.grid_points('11'), "grid_points expects points >= 5", "got '11'"),
    "grid float": (lambda: grids.grid_points(11.), "grid_points expects points >= 5", "got 11.0"),
    "grid hw": (lambda: grids.grid_points(11,-1.), "grid_points expects half_width > 0", "got -1"),
    "temp bad": (lambda: grids.best_temperature(lambda x:x[:,0],X,points=10), "grid_points expects an odd number of at least 5 points", "got 10"),
    "study at typo": (lambda: EIGHT_GAUSSIANS.at('quik'), "nae/eight_gaussians expects profile full, long, quick or smoke", "got 'quik'"),
    "study at None": (lambda: EIGHT_GAUSSIANS.at(None), "nae/eight_gaussians expects profile full, long, quick or smoke", "got None"),
    "recipe steps -1": (lambda: dataclasses.replace(PRESET, steps=-1), "nae/eight_gaussians/AE, D_z = 3 expects steps >= 1", "got -1"),
    "recipe model int": (lambda: dataclasses.replace(PRESET, model=3), "nae/eight_gaussians/AE, D_z = 3 expects model to be a function", "got int"),
    "tol str": (lambda: train_or_load('nae',seed=0), "train_or_load expects a recipe", "got str:"),
    "tol seed -1": (lambda: train_or_load(PRESET,seed=-1), "train_or_load expects seed >= 0", "got -1"),
    "tol seed a": (lambda: train_or_load(PRESET,seed='a'), "train_or_load expects seed >= 0", "got 'a'"),
    "tol seed 1.5": (lambda: train_or_load(PRESET,seed=1.5), "train_or_load expects seed >= 0", "got 1.5"),
    "tol device gpu": (lambda: train_or_load(PRESET,device='gpu'), "device expects 'auto', 'cpu' or 'cuda'", "got 'gpu'"),
    "tol precision": (lambda: train_or_load(PRESET,precision='fp16'), "precision expects one of auto, float32 or bfloat16", "got 'fp16'"),
    "tol exp": (lambda: train_or_load(EIGHT_GAUSSIANS), "train_or_load expects a recipe", "got Study:"),
    "tol graph": (lambda: train_or_load(PRESET,graph='none'), "train_or_load expects graph auto or off", "got 'none'"),
    "tola precision": (lambda: train_or_load_all({'a':PRESET},{'a':[0]},precision='fp16'), "precision expects one of auto, float32 or bfloat16", "got 'fp16'"),
    "tola graph": (lambda: train_or_load_all({'a':PRESET},{'a':[0]},graph=False), "train_or_load_all expects graph auto or off", "got False"),
    "tolp processes 0": (lambda: train_or_load_in_parallel(PRESET,processes=0), "train_or_load_in_parallel expects processes >= 1", "got 0"),
    "tolp processes str": (lambda: train_or_load_in_parallel(PRESET,processes='2'), "train_or_load_in_parallel expects processes >= 1", "got '2'"),
    "tolp processes float": (lambda: train_or_load_in_parallel(PRESET,processes=2.), "train_or_load_in_parallel expects processes >= 1", "got 2.0"),
    "tolp no recipe": (lambda: train_or_load_in_parallel('nae',processes=2), "train_or_load_in_parallel expects a recipe", "got str:"),
    "tolp seed -1": (lambda: train_or_load_in_parallel(PRESET,processes=2,seed=-1), "train_or_load_in_parallel expects seed >= 0", "got -1"),
    "tolp precision": (lambda: train_or_load_in_parallel(PRESET,processes=2,precision='fp16'), "precision expects one of auto, float32 or bfloat16", "got 'fp16'"),
    "tolp graph": (lambda: train_or_load_in_parallel(PRESET,processes=2,graph='on'), "train_or_load_in_parallel expects graph auto or off", "got 'on'"),
    "tolp lambda": (lambda: train_or_load_in_parallel(dataclasses.replace(PRESET, objective=lambda model: no_step),processes=2), "train_or_load_in_parallel expects a recipe whose parts come from modules", "got nae/eight_gaussians/AE, D_z = 3 with one defined in", "put it into a file of its own"),
    "tolp lock": (lambda: train_or_load_in_parallel(dataclasses.replace(PRESET, objective=functools.partial(print, threading.Lock())),processes=2), "train_or_load_in_parallel expects a recipe whose parts come from modules", "put it into a file of its own"),
    "tola seeds missing": (lambda: train_or_load_all({'a':PRESET},{'b':[0]}), "train_or_load_all expects seeds for 'a'", "got None"),
    "tola seeds int": (lambda: train_or_load_all({'a':PRESET},{'a':0}), "train_or_load_all expects seeds for 'a'", "got 0"),
    "tola seeds empty": (lambda: train_or_load_all({'a':PRESET},{'a':[]}), "train_or_load_all expects seeds for 'a'", "got []"),
    "tola device": (lambda: train_or_load_all({'a':PRESET},{'a':[0]},device='gpu'), "device expects 'auto', 'cpu' or 'cuda'", "got 'gpu'"),
    "one label out of range": (lambda: joint_run(torch.where(torch.arange(20) == 19, 7, Y)), "Joint expects labels 0..1", "got [7]", "renumber"),
    "fetch typo": (lambda: data.fetch("mnst"), "data expects the name of a set", "got 'mnst'", "did you mean mnist"),
    "two holes": (FloatingPointError, lambda: Shuffled(holed(6, 7, 20), None, 5, 0), "Shuffled expects finite numbers", "got NaN or infinite entries in 2 of 20 items of x, the first at index 3", "drop or fill"),
    "a hole in a fresh batch": (FloatingPointError, lambda: run(batches=Fresh(lambda n, g: holed(6)[:n], 5)), "fit expects finite numbers", "got NaN or infinite entries in 1 of 5 inputs of the batch of step 1, the first at index 3"),
    "panel built": (lambda: widgets.show(eight_gaussians_panel()), "show expects build to be a function", "got RunPanel", "without calling it"),
    "panel noise": (lambda: panel_run(noise_std=nan), "MalaChain expects noise_std >= 0", "got nan"),
    "panel updates": (lambda: panel_run(updates=0), "nae/eight_gaussians/NAE-OMI, D_z = 3 expects steps >= 1", "got 0"),
    "-p typo": (UsageError, lambda: parameter("gama=1"), "ebm/a expects a parameter of its own", "got 'gama'", "write gamma"),
    "-p type": (UsageError, lambda: parameter("steps=1.5"), "ebm/a expects steps of type int", "got '1.5'", "write for example steps=3"),
    "-p range": (UsageError, lambda: parameter("gamma=-1"), "ebm/a expects gamma of type float", "got '-1'", "the range is 0..100"),
    "-p nan": (UsageError, lambda: parameter("gamma=nan"), "ebm/a expects gamma of type float", "got 'nan'", "finite"),
    "-p profile": (UsageError, lambda: parameter("profile=fast"), "ebm/a expects profile of type str", "got 'fast'", "smoke | quick | long | full"),
    "-p no value": (UsageError, lambda: parameter("gamma"), "ebm/a expects NAME=VALUE", "got 'gamma'"),
    "notebook typo": (UsageError, lambda: choose(["gamma_swep"], Path("notebooks")), "oodlab expects a notebook", "got 'gamma_swep'"),
}
# fmt: on


@pytest.fixture
def nothing_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fail on a step of any optimiser; run in an empty folder."""
    for optimiser in (torch.optim.Adam, torch.optim.SGD):
        monkeypatch.setattr(optimiser, "step", no_step)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_bad_input_raises_one_error_that_states_the_expected_and_the_given_value(
    row: tuple, nothing_done: Path
) -> None:
    """The message is one sentence, `<who> expects <what>, got <value>`, and is raised by this package."""
    kind, call, expected, *words = row if isinstance(row[0], type) else (ValueError, *row)
    with pytest.raises(kind) as refusal:
        call()
    message = str(refusal.value)
    assert type(refusal.value) is kind
    assert message.startswith(expected)
    for word in words:
        assert word in message
    assert re.fullmatch(r"(?s)\S.{0,80}? expects .+, got .+[.?]", message), "the form of every refusal"
    where = traceback.extract_tb(refusal.value.__traceback__)[-1].filename
    assert Path(where).is_relative_to(Path(oodlab.__file__).parent)
    assert not workspace.runs_folder().exists(), "a checkpoint was written"


PASSED_ON = {
    "memory": torch.OutOfMemoryError("CUDA out of memory: see max_split_size_mb"),
    "device": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED, workspace of size 8"),
    "the model's own": RuntimeError("the weights are not there yet"),
    "a kind of its own": detectors.NotFittedError("the shape is not known yet"),
}


@pytest.mark.parametrize("entry", ["fit", "score_samples"])
@pytest.mark.parametrize("error", PASSED_ON.values(), ids=PASSED_ON)
def test_a_models_error_that_is_not_about_a_shape_reaches_the_user_unchanged(
    error: RuntimeError, entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    model = ae()
    monkeypatch.setattr(model, "log_density", fail)
    with pytest.raises(RuntimeError) as raised:
        run(model) if entry == "fit" else detectors.LogDensity(model).score_samples(X)
    assert raised.value is error


def test_check_first_batch_leaves_weights_statistics_modes_and_random_state_unchanged() -> None:
    """Layers that initialise from data, running statistics and the run's random state stay as they are."""
    from oodlab.training.inspection import check_first_batch

    model = vector_realnvp(2, couplings=2, hidden=(4,), actnorm=True)
    model.statistics = nn.BatchNorm1d(2)
    model.log_density = lambda x: type(model).log_density(model, model.statistics(x))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.eval().modules()]
    check_first_batch(model, reconstruction, Fresh(data.eight_gaussians, 5), 0, torch.Generator(), torch.device("cpu"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    model.train()
    x = 5 + X
    model.log_prob(x)
    assert not torch.allclose(model.state_dict()["scales.0.0.shift"], before["scales.0.0.shift"]), (
        "ActNorm no longer looks"
    )
