"""Pure loss mathematics: tensors in, scalar out. Everything is computed in fp32.

One family a file: logits, hidden states, attention, and relations between examples. Every function
is a mean over the examples of the batch, each example first averaged over whatever it consists of
(tokens, heads): splitting a batch into equal micro-batches or padding it further changes nothing.
"""
