from .basins import Outcome as Outcome
from .basins import Outcomes as Outcomes
from .basins import basins as basins
from .basins import classify as classify
from .dynamics import Escaped as Escaped
from .dynamics import orbit as orbit
from .dynamics import orbit_diagram as orbit_diagram
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

__version__: str
