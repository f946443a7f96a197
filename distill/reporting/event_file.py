"""Writer of TensorBoard event files that needs neither torch nor TensorFlow."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from distill.reporting.files import replacing

Layout = Mapping[str, Mapping[str, Sequence[str]]]
"""Category -> chart -> regular expressions of the tags in it."""

RGBA = 4  # channels of matplotlib's PNG files


def drop_steps_from(directory: Path, suffix: str, step: int) -> None:
    """Remove the events of a step and later ones: a training that is continued writes them again.

    What a killed process has left half-written at a file's end goes as well.

    Args:
        directory: Folder of the event files.
        suffix: Of the names of the training's files.
        step: The first step that is removed.
    """
    for file in directory.glob(f"{NAME}*{suffix}"):
        content = file.read_bytes()
        kept, has_summaries = bytearray(), False
        for record in _records(content):
            event = Event.FromString(record[HEADER:-FOOTER])
            if event.HasField("summary") and event.step >= step:
                continue
            kept += record
            has_summaries |= event.HasField("summary")
        if not has_summaries:
            file.unlink()
        elif len(kept) < len(content):
            with replacing(file) as temporary:
                temporary.write_bytes(kept)


# Length and its checksum before the content of a record, the content's checksum after it, in bytes.
HEADER, FOOTER = 12, 4
NAME = "events.out.tfevents."


def _records(content: bytes) -> Iterator[bytes]:
    """Yield the whole records of an event file, with their headers and footers."""
    start = 0
    while len(content) >= start + HEADER + FOOTER:
        head = content[start : start + HEADER]
        length, checksum = struct.unpack("<QI", head)
        end = start + HEADER + length + FOOTER
        if masked_crc32c(head[:8]) != checksum or len(content) < end:
            return
        body = content[start + HEADER : end - FOOTER]
        if struct.pack("<I", masked_crc32c(body)) != content[end - FOOTER : end]:
            return
        yield content[start:end]
        start = end


class EventFile:
    """A new event file in a folder; a context manager that closes it.

    Tags and contents are those of :class:`torch.utils.tensorboard.SummaryWriter`.

    Args:
        directory: Created if it does not exist.
        suffix: Of the file's name; files that have it are replaced.
    """

    def __init__(self, directory: Path, suffix: str = "") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for file in directory.glob(f"{NAME}*{suffix}") if suffix else ():
            file.unlink()
        self._writer = EventFileWriter(str(directory), filename_suffix=suffix)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def add_summary(self, summary: Any, step: int | None = None) -> None:
        """Write a summary protobuf."""
        event = Event(wall_time=time.time(), summary=summary)
        if step is not None:
            event.step = step
        self._writer.add_event(event)

    def add_scalar(self, tag: str, value: float, step: int | None = None) -> None:
        """Write a scalar."""
        self.add_summary(Summary(value=[Summary.Value(tag=tag, simple_value=value)]), step)

    def add_text(self, tag: str, markdown: str) -> None:
        """Write a Markdown text."""
        plugin = SummaryMetadata.PluginData(
            plugin_name="text", content=TextPluginData(version=0).SerializeToString()
        )
        self._add_string(f"{tag}/text_summary", markdown.encode(), plugin, dimensions=(1,))

    def add_png(self, tag: str, file: Path) -> None:
        """Write a PNG file as an image."""
        content = file.read_bytes()
        width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
        image = Summary.Image(
            height=height, width=width, colorspace=RGBA, encoded_image_string=content
        )
        self.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]))

    def add_custom_scalars(self, layout: Layout) -> None:
        """Write the layout of the custom-scalars tab, with one chart for each entry."""
        categories = [
            layout_pb2.Category(
                title=category,
                chart=[
                    layout_pb2.Chart(
                        title=chart, multiline=layout_pb2.MultilineChartContent(tag=tags)
                    )
                    for chart, tags in charts.items()
                ],
            )
            for category, charts in layout.items()
        ]
        content = layout_pb2.Layout(category=categories).SerializeToString()
        plugin = SummaryMetadata.PluginData(plugin_name="custom_scalars")
        self._add_string("custom_scalars__config__", content, plugin)

    def _add_string(
        self, tag: str, content: bytes, plugin: Any, dimensions: Sequence[int] = ()
    ) -> None:
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in dimensions])
        tensor = TensorProto(dtype="DT_STRING", string_val=[content], tensor_shape=shape)
        metadata = SummaryMetadata(plugin_data=plugin)
        self.add_summary(Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)]))
