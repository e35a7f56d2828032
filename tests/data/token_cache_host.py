"""One of two hosts that make token caches together: what each of them sees, as a line of JSON."""

import json
import sys

import jax

from promot_jax import data, hosts
from promot_jax.data import building, examples, files, reading, rows
from promot_jax.errors import UserError

examples.BLOCK = rows.BLOCK = 16
building.SHARD, reading.LARGE, files.LARGE = 2, 20, 1


def make(file: str, cache: str) -> list:
    """Digest, and the shards that this host has written; or what it says."""
    written, write = [], building.Shard.write

    def noting(self, parts):
        write(self, parts)
        written.append(self._about.stem)

    building.Shard.write = noting
    name = data.file_task(f"hosts_{cache.rpartition('/')[2]}", file, file)
    train = data.TrainData(name, 90, 12, batch_size=8)
    try:
        found = data.Batches(train, data.byte(), 259, cache=cache)
        return [found.digests[name], written]
    except UserError as error:
        return [str(error)]
    finally:
        building.Shard.write = write


if __name__ == "__main__":
    hosts.join()
    directory, me = sys.argv[1], jax.process_index()
    said = [
        make(f"{directory}/rows.tsv", f"{directory}/shared"),
        make(f"{directory}/rows.tsv", f"{directory}/own_{me}"),
        make(f"{directory}/bad.tsv", f"{directory}/bad"),
    ]
    print(json.dumps(said))
