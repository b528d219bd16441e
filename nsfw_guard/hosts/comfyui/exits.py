"""The ways by which a picture leaves ComfyUI, and what closes each."""

from __future__ import annotations

from nsfw_guard.hosts.coverage import Exit

OUTPUTS = "output nodes"
PREVIEWS = "live previews"
SENT = "pictures sent"
HELPERS = "the host's own helpers"
PROMPTS = "prompts"

_AT_THE_NODE = "cleaned before the node runs; a fault stops the node"


def _exit(way: str, how: str, *hooks: str) -> Exit:
    return Exit("comfyui", way, hooks, how)


COMFYUI = (
    _exit("SaveImage", _AT_THE_NODE, OUTPUTS),
    _exit("PreviewImage", _AT_THE_NODE, OUTPUTS),
    _exit("output nodes of the host", "each is handed clean inputs; a fault stops it", OUTPUTS),
    _exit("SaveImageWebsocket", "cleaned before the node runs; what it sends is compared with that", OUTPUTS, SENT),
    _exit("SaveAnimatedWEBP and SaveAnimatedPNG", "every frame is " + _AT_THE_NODE, OUTPUTS),
    _exit("CreateVideo and SaveVideo (VIDEO)", "its frames are judged; a new VIDEO stands in", OUTPUTS),
    _exit("graphs expanded at run time", "their nodes go through the same call", OUTPUTS),
    _exit("subgraphs", "they are flattened by the host: the same call", OUTPUTS),
    _exit("MASK and lists of pictures", "judged like pictures, one by one", OUTPUTS),
    _exit("nodes with intermediate results, and heirs of SaveImage", "treated like output nodes", OUTPUTS),
    _exit("live latent previews", "hidden, pixelated or checked, as the settings say", PREVIEWS),
    _exit("previews that a node sends by itself", "by send_sync: shown as previews are, or dropped", SENT),
    _exit("SaveLatent and other output nodes with a LATENT", "refused: a latent cannot be judged", OUTPUTS),
    _exit("results of API nodes", "they come as IMAGE or VIDEO and are cleaned at the output node", OUTPUTS),
    _exit("words of a prompt", "refused by the policy's prompt rules, where a text stands in the graph", PROMPTS),
    _exit("prompts hidden inside other nodes", "what a node makes up, reads from a file or is handed by another "
          "node is not in the request: only its picture is judged"),
    _exit("/upload and /view of user files", "the host serves files as they are; put it behind a server that checks"),
    _exit("pictures that the host's own helpers save or show (ui.PreviewImage)", "judged where they are handed to it",
          HELPERS),
    _exit("finished bytes, and words that hold a picture", "judged, or not sent; what an output node makes of clean "
          "inputs (SwarmUI's nodes) is sent as it is", SENT, OUTPUTS),
    _exit("nodes that write files themselves and are no output nodes", "any code may write: install only nodes that "
          "you have read"),
    _exit("API nodes that save by themselves, 3-D, SVG and audio", "no pixels come by: what they write is not judged"),
    _exit("pictures in types that a node brought, in its own code", "they cannot be told from other values"),
    _exit("further streams of a video file", "only the frames that get_components() decodes are judged"),
    _exit("the prompt in a PNG's metadata", "left as it is: the host's --disable-metadata keeps it out"),
)  # fmt: skip
