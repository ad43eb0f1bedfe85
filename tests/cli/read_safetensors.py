"""Prints a .safetensors file: a line for each tensor, with its shape, its first
and last value and their sum. Python's standard library only.

    python3 read_safetensors.py FILE
"""
import array
import json
import struct
import sys

with open(sys.argv[1], "rb") as file:
    (length,) = struct.unpack("<Q", file.read(8))
    header = json.loads(file.read(length))
    data = file.read()

for name, tensor in header.items():
    if name == "__metadata__":
        print("network", tensor["network"])
        continue
    assert tensor["dtype"] == "F32"
    begin, end = tensor["data_offsets"]
    values = array.array("f", data[begin:end])
    print(name, tensor["shape"], values[0], values[-1], sum(values))
