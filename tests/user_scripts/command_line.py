#!/usr/bin/env python
"""A rate from the command line that is far too high."""

import argparse

import keras
import numpy as np
from keras import layers


def load(rows):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 5)).astype("float32")
    return x, np.sin(x[:, :1]) + 0.5 * x[:, 1:2]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=20.0)
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()

    keras.utils.set_random_seed(args.epochs)
    x, y = load(400)
    net = keras.Sequential(
        [keras.Input((5,)), layers.Dense(16, "relu"), layers.Dense(16, "relu"), layers.Dense(1)]
    )
    optimizer = keras.optimizers.SGD(learning_rate=args.lr, momentum=0.9)
    net.compile(optimizer, loss=keras.losses.MeanSquaredError())
    net.fit(x, y, epochs=args.epochs, verbose=0)
    print("loss", net.evaluate(x, y, verbose=0))


if __name__ == "__main__":
    main()
