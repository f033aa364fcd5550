"""Speech to text by an encoder and a decoder: windows, timestamps, segments, transcripts."""
