"""TensorFlow and Arrow: signatures, tensors, servables. Knows nothing of Beam."""
