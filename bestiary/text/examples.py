"""How a program of one's own uses exported nets of text: examples that stand in the README of an export, and run.

Each calls a graph by its name. `<limit>` is the number of tokens that are read of a text, `<segments>` what tells sentences
apart, `<mask>` the token that stands for a gap, `<start>` the one that answers begin with.
"""

READ = '''\
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.enable_truncation(<limit>)
tokenizer.enable_padding()
'''

FEED = '''\
    tokens=np.array([text.ids for text in texts]),
    mask=np.array([text.attention_mask for text in texts], dtype=bool)<segments>
'''

VECTORS = f'''\
{READ}
texts = tokenizer.encode_batch(["a cat", "a kitten", "a train"])
vectors, hidden_states = model(
{FEED})
print(vectors @ vectors.T)
'''

CLASSES = f'''\
{READ}
texts = tokenizer.encode_batch(["What a film!", "Never again."])  # of a model that judges pairs, tuples of two texts
(logits,) = model(
{FEED})
print([settings["labels"][index] for index in logits.argmax(-1)])
'''

TAGS = f'''\
{READ}
texts = tokenizer.encode_batch(["Ada Lovelace lived in London."])
(logits,) = model(
{FEED})
print([(token, settings["labels"][index]) for token, index in zip(texts[0].tokens, logits[0].argmax(-1))])
'''

MASKS = f'''\
{READ}
texts = tokenizer.encode_batch(["Paris is the <mask> of France."])
(logits,) = model(
{FEED})
gap = texts[0].ids.index(tokenizer.token_to_id("<mask>"))
print([tokenizer.id_to_token(token) for token in logits[0, gap].argsort()[:-6:-1]])
'''

ANSWERS = f'''\
{READ}
texts = tokenizer.encode_batch([("Who wrote it?", "It was written by Ada.")])
(logits,) = model(
{FEED})
start, end = logits[0].argmax(0)
print(tokenizer.decode(texts[0].ids[start : end + 1]))
'''

CONTINUATION = '''\
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
new = np.array([tokenizer.encode("Gravity is").ids])
past = {}  # of the text so far: nothing, and then what each call gives
for name, axes in settings["graphs"]["model"]["inputs"].items():
    if name.startswith("past"):
        shape = [{"batch": 1, "past": 0}.get(axis, axis) for axis in axes]
        past[name] = np.zeros(shape, bool if name == "past_mask" else np.float32)
made = []
while len(made) < 20:
    logits, *present = model(tokens=new, mask=np.ones_like(new, bool), **past)
    past = dict(zip(past, present))
    new = logits[:, -1:].argmax(-1)
    if new[0, 0] in settings["preprocess"]["end_tokens"]:
        break
    made.append(int(new[0, 0]))
print(tokenizer.decode(made))
'''

TRANSLATION = '''\
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
tokens = np.array([tokenizer.encode("translate English to German: The house is wonderful.").ids])
mask = np.ones_like(tokens, bool)
(hidden_states,) = encoder(tokens=tokens, mask=mask)
made = [settings["preprocess"]["start_token"]]
while len(made) < 20 and made[-1] not in settings["preprocess"]["end_tokens"]:
    (logits,) = decoder(decoder_tokens=np.array([made]), hidden_states=hidden_states, mask=mask)
    made.append(int(logits[0, -1].argmax()))
print(tokenizer.decode(made[1:]))
'''
