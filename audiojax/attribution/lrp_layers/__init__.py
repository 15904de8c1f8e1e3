"""Networks as the layers that `relevance.py` shares relevance out to: `seam`, by kind of network.

The seam lies behind the front end: relevance is that of the samples of a network on the waveform, after their scale, or
whose filters are learnt, and that of the bins of a network behind log-mel, in nats above its floor, or decibels. So 0
is silence in all of them. All of it is float32.
"""

from flax import linen as nn

from audiojax.attribution.lrp_layers.audionet import audionet_seam, resnet_seam
from audiojax.attribution.lrp_layers.gru import gru_seam
from audiojax.attribution.lrp_layers.melcnn import alexnet_seam, melcnn_seam
from audiojax.attribution.lrp_layers.parts import Seam
from audiojax.errors import InputError
from audiojax.models.alexnet import AlexNet
from audiojax.models.audionet import AudioNet
from audiojax.models.gru import GRU
from audiojax.models.melcnn import MelCNN
from audiojax.models.resnet1d import ResNet1D


def seam(model: nn.Module) -> Seam:
    """Raises InputError for a network that cannot be explained: one of another kind, or one that listens."""
    match model:
        case AudioNet():
            return audionet_seam(model)
        case ResNet1D():
            return resnet_seam(model)
        case MelCNN():
            return melcnn_seam(model)
        case AlexNet():
            return alexnet_seam(model)
        case GRU():
            return gru_seam(model)
    raise InputError(f"the network is {type(model).__name__}; explain one of those that audiojax.models has.")
