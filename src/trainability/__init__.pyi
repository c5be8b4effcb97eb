from .maps import Map as Map
from .maps import cubic_map as cubic_map
from .maps import error_map as error_map
from .maps import gradient_descent as gradient_descent
from .maps import product_map as product_map
from .prompt import Prompt as Prompt
from .prompt import random_prompt as random_prompt

__version__: str
