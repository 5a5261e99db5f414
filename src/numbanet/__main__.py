"""python -m numbanet"""

import sys

from numbanet.cli import main

sys.exit(main())
