"""Every way by which an image leaves sdnext, and A1111, Forge or reForge, and what closes it."""

from __future__ import annotations

from collections.abc import Iterable

from nsfw_guard.hosts.coverage import Exit

Row = tuple[str, tuple[str, ...], str]

# Other extensions' callbacks may run behind the guard's: a wrap around all of them looks once more.
SAVED_BEHIND = "wrap script_callbacks.before_image_saved_callback"
AFTER_BEHIND = "wrap script_callbacks.after_process_callback"
SAVED, AFTER = ("on_before_image_saved", SAVED_BEHIND), ("on_after_process", AFTER_BEHIND)
GRID = "on_image_grid"
DOOR = "wrap state.current_image"
EXTRAS = "ScriptPostprocessing.process"
WRITER, FILES = "wrap video_save.save_video", "wrap video.save_video"
LAST = "Script.postprocess"
INNER = "wrap processing.process_images_inner"
OUTER = "wrap processing.process_images"
TAB = "wrap postprocessing.run_postprocessing"


def _exits(host: str, rows: Iterable[Row]) -> tuple[Exit, ...]:
    return tuple(Exit(host, way, hooks, how) for way, hooks, how in rows)


_NEVER: tuple[Row, ...] = (
    ("a shell, starting without extensions", (), "whoever may do that can take the guard out"),
    (
        "the Extensions tab, options that unload extensions",
        (),
        "refused while it is locked; else they take it out",
    ),
    ("latents", (), "they are kept in memory and can be downloaded; they cannot be judged before they are decoded"),
    ("images that a user hands in", (), "masks, input and control images are shown to the user who sent them"),
    ("files that were there before", (), "a gallery shows the files on the disk; screen them with nsfw-guard check"),
    ("another extension that writes its own files", (), "a host has no hook for files that an extension opens itself"),
)

SDNEXT = _exits(
    "sdnext",
    (
        ("samples on disk", SAVED, "judged and covered in place before they are written"),
        ("result list, gallery and API answer", AFTER, "covered in place, also if nothing is saved"),
        ("samples while they are worked on", ("Script.postprocess_image",), "covered before the infotext is made"),
        ("batches of arrays", ("Script.postprocess_batch", "Script.postprocess_batch_list"), "covered in place"),
        ("live previews by grid", (GRID, DOOR), "each part is covered, and the whole preview when it is set"),
        ("live previews set by a pipeline", (DOOR,), "a property covers every value that is set"),
        ("live previews of FramePack", ("wrap framepack_vae.vae_decode", DOOR), "covered where they are decoded"),
        ("interrupted or skipped jobs", (*SAVED, *AFTER), "these callbacks run, though no image hook does"),
        ("jobs without scripts, such as LTX", (*SAVED, *AFTER), "callbacks do not depend on scripts"),
        ("routes that call the inner function: /sdapi/v1/detail", (INNER,), "prompts and result are judged"),
        ("video: frames, thumbnails, tensors, files", (WRITER, "wrap video_save.atomic_save_video"), "frames covered"),
        ("video of FramePack", (WRITER,), "the writer is wrapped under every name by which it was imported"),
        ("video of the Video, XYZ and AnimateDiff scripts", (FILES, "wrap video.save_video_atomic"), "frames covered"),
        ("video as bytes", (*AFTER, WRITER), "cannot be judged: removed from the result, and not written"),
        ("Control tab", (*AFTER, *SAVED), "callbacks run there for every extension"),
        ("Control tab, scripts", ("control_extensions",), "the script is added to the list of those that may run"),
        ("inpainting: what is pasted back", (*SAVED, *AFTER), "judged again with the original around it"),
        ("grading, resize and detailer after the hooks", (*SAVED, *AFTER), "judged again when it is returned"),
        ("steps between on disk: hires, detailer, colour", SAVED, "written through the same callback"),
        ("Process tab and API", (EXTRAS, TAB), "covered in a postprocessing step, and again in the returned list"),
        ("jobs that save nothing", AFTER, "results are covered whether or not they are saved"),
        ("grids, also of XYZ", (*SAVED, *AFTER, GRID), "made of covered images, and judged themselves"),
        ("what a script of the menu puts together", ("wrap ScriptRunner.run",), "what it returns is covered"),
        ("temporary files of the gallery, history", (*SAVED, *AFTER), "covered in place: all of them share one object"),
        ("prompts that the policy refuses", ("on_before_process",), "one black image is returned and no model runs"),
        ("arguments of the script by API", ("Script.before_process",), "they only make settings stricter"),
        (
            "options by API, override_settings",
            ("on_ui_settings",),
            "a job does not read them; a lock only gets stricter",
        ),
        (
            "what another extension's callback makes of an image",
            (SAVED_BEHIND, AFTER_BEHIND),
            "judged again after all callbacks",
        ),
        ("metadata", SAVED, "a covered image loses its thumbnail and alpha; the verdict is written"),
        (
            "test buttons of the Control tab (SD_CONTROL_DEBUG)",
            (),
            "they call pipelines directly: start the host without this variable",
        ),
        ("files that the host writes for its own debugging", (), "the last image of X-Omni, and of soft filling"),
        ("video files of the Process tab", (), "a file path: judged only if a wrapped writer wrote it"),
        *_NEVER,
    ),
)

A1111 = _exits(
    "a1111",
    (
        ("samples on disk", SAVED, "judged and covered in place before they are written"),
        ("result list, gallery and API answer", (LAST, INNER), "covered in place, also if nothing is saved"),
        ("extra images of a result", (LAST, INNER), "covered with the result"),
        ("samples while they are worked on", ("Script.postprocess_image",), "covered before the infotext is made"),
        ("batches of tensors", ("Script.postprocess_batch", "Script.postprocess_batch_list"), "covered in place"),
        ("inpainting: what is pasted back", ("Script.postprocess_image_after_composite", *SAVED), "judged again"),
        ("mask composites", ("Script.postprocess_image", *SAVED, INNER), "made of a covered image, and covered"),
        ("live previews", (DOOR,), "a property covers every value that is set"),
        ("interrupted jobs", (*SAVED, LAST), "hooks still run"),
        ("jobs without scripts", (INNER,), "what a job returns is covered whatever scripts it has"),
        ("steps between on disk: hires, faces, colour", SAVED, "written through the same callback"),
        ("Extras tab and API", (EXTRAS, TAB), "covered in a postprocessing step, and again in the returned list"),
        ("jobs that save nothing", (LAST, INNER), "results are covered whether or not they are saved"),
        ("grids, also of XYZ", (*SAVED, INNER), "made of covered images, and judged themselves"),
        ("what a script of the menu puts together", ("wrap ScriptRunner.run",), "what it returns is covered"),
        ("temporary files of the gallery", (*SAVED, INNER), "covered in place: all of them share one object"),
        ("prompts that the policy refuses", (INNER,), "solid images are returned and nothing is generated"),
        ("arguments of the script by API", ("Script.before_process",), "they only make settings stricter"),
        (
            "options by API, override_settings",
            ("on_ui_settings",),
            "not read for a job; kept from the API where the host does (Forge does not)",
        ),
        ("what another extension's callback makes of an image", (SAVED_BEHIND,), "judged again after all callbacks"),
        ("metadata", SAVED, "a covered image loses its thumbnail and alpha; the verdict is written"),
        ("pipelines of its own in Forge Neo", (OUTER,), "result and caption of process_images are judged"),
        ("video of Forge Neo", ("wrap images.save_video",), "frames covered"),
        ("spaces of Forge", (), "separate pages, outside of every hook"),
        (
            "video that an extension writes",
            (),
            "only the writer of Forge Neo is known; frames are covered if they are images of the result",
        ),
        *_NEVER,
    ),
)
