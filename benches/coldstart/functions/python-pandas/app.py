"""A function with a large native stack: pandas and numpy imported, a table loaded, at init."""

import time

import numpy as np
import pandas as pd

sales = pd.DataFrame({"shop": np.arange(2000) % 7, "amount": np.arange(2000.0)})


def handler(event, context):
    if pause := event.get("sleep_ms"):
        time.sleep(pause / 1000)
    totals = sales.groupby("shop")["amount"].sum()
    return {"best": int(totals.idxmax()), "total": float(totals.sum())}
