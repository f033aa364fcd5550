"""Task objects of sound: sounds to transcripts, spans of speech, pitches, labels and vectors."""
