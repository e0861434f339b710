"""Inputs of a fuzzer as text of a language: octets from 128 on each stand for a word of it."""

from __future__ import annotations

from typing import TypeVar

Text = TypeVar("Text", str, bytes)


def spelled(data: bytes, words: list[Text]) -> list[Text]:
    """The words and, for octets below 128, the characters that `data` stands for."""
    characters = {bytes: lambda octet: bytes((octet,)), str: chr}[type(words[0])]
    return [words[octet % len(words)] if octet > 127 else characters(octet) for octet in data]
