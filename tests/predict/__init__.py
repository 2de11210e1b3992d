"""Tests of the room predict beyond single images: videos, tiles, several answers as one, folders of labels."""
