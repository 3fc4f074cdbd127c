"""Arrow's compute functions: they are made while pyarrow is imported, so that no type checker knows them by name."""

from typing import Any

import pyarrow.compute

compute: Any = pyarrow.compute
