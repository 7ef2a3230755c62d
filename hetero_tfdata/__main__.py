"""`python -m hetero_tfdata` is `hetero-tfdata`."""

import sys

from hetero_tfdata.cli import main

sys.exit(main())
