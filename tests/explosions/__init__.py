"""Small trainings that really go non-finite, each for one cause; kept once and used all over
the tests. A module for each kind of failure, and all of them here.
"""

from explosions.arithmetic import *  # noqa: F403
from explosions.domains import *  # noqa: F403
from explosions.elsewhere import *  # noqa: F403
from explosions.falling import *  # noqa: F403
from explosions.groups import *  # noqa: F403
from explosions.holes import *  # noqa: F403
from explosions.networks import *  # noqa: F403
from explosions.optimization import *  # noqa: F403
from explosions.parts import *  # noqa: F403
from explosions.recursions import *  # noqa: F403
from explosions.scales import *  # noqa: F403
from explosions.spectra import *  # noqa: F403
