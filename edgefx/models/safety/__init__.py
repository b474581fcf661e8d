"""What stands between a model file from anywhere and the libraries that read it.

A model file is untrusted. Keras and TensorFlow run what a file says: byte code of Lambda layers, any function
of TensorFlow's interface, any operation of a graph. Hence nothing of a file reaches them before these steps,
in this order, which `edgefx.models.load` takes:

1. `snapshot` copies the file or folder to a private place and hashes what it copies. Everything else looks at
   the copy only, so that what was judged and hashed is what is loaded, whatever happens to the original.
2. `archives` bounds what zip and HDF5 files inflate to, without believing the sizes that they declare.
3. `configs` judges the configuration of Keras layers: what it names must be part of Keras, and a TensorFlow
   function that it names must be pure.
4. `graphs` judges the graph of a SavedModel: what loading or running it reaches must be on a list of pure
   operations (`operations`).

``--allow-unsafe`` skips steps 2 to 4, and the report says so.
"""
