"""Networks that TensorFlow.js publishes as a list of layers, run in torch."""
