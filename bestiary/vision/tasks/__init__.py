"""Task objects of images: images to labels, vectors, boxes, masks and depths."""
