"""Task objects of encoders: texts to vectors, labels, spans, words and answers."""
