"""An ordinary training script that knows nothing of nanfix and goes NaN:
`nanfix repair plain_script.py`.

Symptom: the loss is NaN from the first epoch on, and predictions are NaN.
Cause:   the columns are fed raw, one of them in the thousands, to plain SGD.
Remedy:  standardize the columns.
"""

import argparse

import keras
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser(
    description="Estimate a wine's color intensity from its other properties."
)
parser.add_argument("--epochs", type=int, default=30)
args = parser.parse_args()

keras.utils.set_random_seed(0)
wine = load_wine(as_frame=False)
column = wine.feature_names.index("color_intensity")
X = wine.data[:, [i for i in range(wine.data.shape[1]) if i != column]]
y = wine.data[:, column]
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)

model = keras.Sequential(
    [
        keras.Input((X.shape[1],)),
        keras.layers.Dense(32, activation="leaky_relu"),
        keras.layers.Dense(1),
    ]
)
model.compile(
    optimizer=keras.optimizers.SGD(learning_rate=0.01),
    loss="mean_squared_error",
    metrics=["mean_absolute_error"],
)
model.fit(X_train, y_train, epochs=args.epochs, batch_size=16, verbose=2)

loss, error = model.evaluate(X_test, y_test, verbose=0)
print(f"test loss {loss:.3f}, mean absolute error {error:.3f}")
