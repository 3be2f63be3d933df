"""SavedModel: the reference, exported with Keras or brought by the user, run with TensorFlow."""
