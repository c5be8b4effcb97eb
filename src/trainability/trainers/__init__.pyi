from .linear_transformer import LinearTransformer as LinearTransformer
from .mlp import MLP as MLP
