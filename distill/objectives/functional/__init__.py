"""Loss functions: tensors in, a scalar out, computed in fp32.

One family per file. Every function averages over the examples of the batch, and within an example
over its tokens and heads: neither splitting a batch into equal micro-batches nor padding it further
changes the result, unless the function says otherwise. No gradient flows into the teacher.
"""
