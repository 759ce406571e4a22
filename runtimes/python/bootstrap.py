"""The entry point of a managed Python function. Scripts are compiled at every start, so it only imports."""

import firn_runtime

firn_runtime.main()
