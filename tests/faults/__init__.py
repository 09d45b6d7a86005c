"""Real faults: killed and stopped processes, crashed servers, cut connections, hostile values, wrong clocks.

Real worker processes run the workflows of `workflows.py` against a real database. Every execution of a step writes a
line to a ledger outside of that database, and `verdict.py` compares the two. KAGZI_FAULT_ROUNDS (1) multiplies how
often the long tests strike.
"""

import os

ROUNDS = int(os.environ.get("KAGZI_FAULT_ROUNDS", "1"))
