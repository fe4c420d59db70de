"""FastAPI, which has no batches: pictures are prepared on all cores, and classified one after the other."""

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI, Request

from benchmarks.peers.model import Answer, Model, Preparation, set_up

app = FastAPI()
prepare = Preparation()
# The model is loaded on the thread that uses it. Forward passes of several threads at once would share the cores badly.
preparing, computing = ThreadPoolExecutor(set_up()["threads"]), ThreadPoolExecutor(1)
model = computing.submit(Model).result()


@app.post("/predict")
async def predict(request: Request) -> Answer:
    """Classify the picture in the body."""
    loop = asyncio.get_running_loop()
    pixels = await loop.run_in_executor(preparing, prepare, io.BytesIO(await request.body()))
    (answer,) = await loop.run_in_executor(computing, model, [pixels])
    return answer
