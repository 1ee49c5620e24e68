"""What `deployments/compat/silero.py` takes for granted, asked of silero-vad itself."""

import warnings
from functools import partial

import numpy as np
import torch

from deployments.compat.silero import folder, weights
from tests.support.contracts import contract

kept = partial(contract, "silero-vad", "deployments/compat/silero.py")

SHAPES = {
    "stft.forward_basis_buffer": (258, 1, 256),
    "encoder.0.reparam_conv.weight": (128, 129, 3),
    "encoder.0.reparam_conv.bias": (128,),
    "encoder.1.reparam_conv.weight": (64, 128, 3),
    "encoder.1.reparam_conv.bias": (64,),
    "encoder.2.reparam_conv.weight": (64, 64, 3),
    "encoder.2.reparam_conv.bias": (64,),
    "encoder.3.reparam_conv.weight": (128, 64, 3),
    "encoder.3.reparam_conv.bias": (128,),
    "decoder.rnn.weight_ih": (512, 128),
    "decoder.rnn.weight_hh": (512, 128),
    "decoder.rnn.bias_ih": (512,),
    "decoder.rnn.bias_hh": (512,),
    "decoder.decoder.2.weight": (1, 128, 1),
    "decoder.decoder.2.bias": (1,),
}


def test_every_weight_has_its_name_and_shape() -> None:
    with kept("the network's weights"):
        assert {name: array.shape for name, array in weights().items()} == SHAPES


def test_they_are_those_of_the_network_that_the_package_loads() -> None:
    with kept("the network of 16 kHz"):
        with warnings.catch_warnings(action="ignore"):
            published = torch.jit.load(folder() / "silero_vad.jit")._model.state_dict()
        assert published.keys() == SHAPES.keys()
        for name, array in weights().items():
            assert np.array_equal(published[name].numpy(), array), name
