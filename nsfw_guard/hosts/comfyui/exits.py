"""The ways by which an image leaves ComfyUI, and what closes each."""

from __future__ import annotations

from nsfw_guard.hosts.coverage import Exit

OUTPUTS = "output nodes"
PREVIEWS = "live previews"
SENT = "images sent"
HELPERS = "the host's own helpers"
PROMPTS = "prompts"

_AT_THE_NODE = "images are judged and covered before the node runs; a fault stops it"


def _exit(way: str, how: str, *hooks: str) -> Exit:
    return Exit("comfyui", way, hooks, how)


COMFYUI = (
    _exit("SaveImage", _AT_THE_NODE, OUTPUTS),
    _exit("PreviewImage", _AT_THE_NODE, OUTPUTS),
    _exit("output nodes of the host", "each receives covered inputs; a fault stops it", OUTPUTS),
    _exit("SaveImageWebsocket", "covered before the node runs; what it sends is compared with that", OUTPUTS, SENT),
    _exit("SaveAnimatedWEBP and SaveAnimatedPNG", _AT_THE_NODE, OUTPUTS),
    _exit("CreateVideo and SaveVideo (VIDEO)", "its frames are judged; a new VIDEO replaces it", OUTPUTS),
    _exit("graphs expanded at run time", "their nodes run through the same call", OUTPUTS),
    _exit("subgraphs", "the host flattens them: the same call", OUTPUTS),
    _exit("MASK and lists of images", "judged like images, one by one", OUTPUTS),
    _exit("nodes with intermediate results, and heirs of SaveImage", "treated like output nodes", OUTPUTS),
    _exit("live latent previews", "hidden, pixelated or judged, by the settings", PREVIEWS),
    _exit("previews that a node sends by itself", "sent by send_sync: treated like previews, or dropped", SENT),
    _exit("SaveLatent and other output nodes with a LATENT", "refused: a latent cannot be judged", OUTPUTS),
    _exit("results of API nodes", "they are IMAGE or VIDEO, and are covered at the output node", OUTPUTS),
    _exit("words of a prompt", "refused by the policy, if the text is in the graph", PROMPTS),
    _exit("prompts hidden inside other nodes", "a text that a node creates, reads from a file or receives from "
          "another node is not in the request: only the image is judged"),
    _exit("/upload and /view of user files", "the host serves files unchanged: put a server that judges before it"),
    _exit("images that the host's own helpers save or show (ui.PreviewImage)", "judged when the helper is called",
          HELPERS),
    _exit("finished bytes, and words that hold an image", "judged, or not sent; what an output node makes of covered "
          "inputs (SwarmUI's nodes) is sent unchanged", SENT, OUTPUTS),
    _exit("nodes that write files themselves and are no output nodes", "any code can write files: install only nodes "
          "whose source you have read"),
    _exit("API nodes that save by themselves, 3-D, SVG and audio", "not judged: they hand over no pixels"),
    _exit("images in types that a node brought, in its own code", "they cannot be distinguished from other values"),
    _exit("further streams of a video file", "only the frames that get_components() decodes are judged"),
    _exit("the prompt in a PNG's metadata", "unchanged; the host's --disable-metadata leaves it out"),
)  # fmt: skip
