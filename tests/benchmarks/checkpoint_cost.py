"""Training time with a checkpoint each epoch to MinIO against none, the lecture's CNN.

usage: uv run python tests/benchmarks/checkpoint_cost.py [--epochs 4] [--rounds 3] [--threads 2]
"""

import argparse

from common import heading, make_noise, median_ratio, minio_store, train, training_seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    heading(f"seconds of training, {options.epochs} epochs of 60,000 images, with and without a checkpoint each epoch")
    with minio_store() as (store, environment):
        make_noise(store, 60_000, environment)

        def seconds(every: str) -> float:
            keys = ["dataset=noise", f"epochs={options.epochs}", "evaluate.validation=0", "augment=[]", every]
            return training_seconds(train("cnn-mnist", store, *keys, f"worker.cpus={options.threads}", environment=environment))

        median_ratio(
            lambda: seconds("checkpoint.every_epochs=1"),
            lambda: seconds("checkpoint.every_epochs=1000"),
            options.rounds,
            "s",
            ("each epoch", "none but the last"),
        )


if __name__ == "__main__":
    main()
