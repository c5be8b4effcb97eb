from . import plot as plot
from . import trainers as trainers
from .basins import Outcome as Outcome
from .basins import Outcomes as Outcomes
from .basins import basins as basins
from .basins import classify as classify
from .dynamics import Escaped as Escaped
from .dynamics import orbit as orbit
from .dynamics import orbit_diagram as orbit_diagram
from .grid import Axis as Axis
from .grid import Grid as Grid
from .grid import linear_axis as linear_axis
from .grid import log_axis as log_axis
from .lyapunov import LyapunovSpectrum as LyapunovSpectrum
from .lyapunov import lyapunov_map as lyapunov_map
from .lyapunov import lyapunov_spectrum as lyapunov_spectrum
from .maps import Map as Map
from .maps import cubic_map as cubic_map
from .maps import error_map as error_map
from .maps import gradient_descent as gradient_descent
from .maps import product_map as product_map
from .prompt import Prompt as Prompt
from .prompt import random_prompt as random_prompt
from .sweep import Status as Status
from .sweep import Trainer as Trainer
from .sweep import trainability_map as trainability_map

__version__: str
