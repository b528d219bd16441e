"""Every way by which a picture leaves sdnext, and A1111, Forge or reForge, and what closes it."""

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
    ("latents", (), "they are kept in memory and can be downloaded; what they decode to is not known before"),
    ("pictures that a user hands in", (), "masks, input and control pictures are shown back to whoever sent them"),
    ("files that were there before", (), "a gallery shows what lies on the disk; check those with nsfw-guard check"),
    ("another extension that writes its own files", (), "a host has no hook for files that an extension opens itself"),
)

SDNEXT = _exits(
    "sdnext",
    (
        ("samples on disk", SAVED, "checked and painted in place before they are written"),
        ("result list, gallery and API answer", AFTER, "swept in place, also where nothing is saved"),
        ("samples while they are worked on", ("Script.postprocess_image",), "painted before the infotext is made"),
        ("batches of arrays", ("Script.postprocess_batch", "Script.postprocess_batch_list"), "painted in place"),
        ("live previews by grid", (GRID, DOOR), "each part, and again where the preview is set"),
        ("live previews set by a pipeline", (DOOR,), "the attribute is a door: whatever is set there is covered first"),
        ("live previews of FramePack", ("wrap framepack_vae.vae_decode", DOOR), "covered where they are decoded"),
        ("interrupted or skipped jobs", (*SAVED, *AFTER), "both run though no hook for pictures does"),
        ("jobs without scripts, such as LTX", (*SAVED, *AFTER), "callbacks do not depend on scripts"),
        ("routes that call the inner function: /sdapi/v1/detail", (INNER,), "prompts are asked, the result is swept"),
        ("video: frames, thumbnails, tensors, files", (WRITER, "wrap video_save.atomic_save_video"), "clean frames in"),
        ("video of FramePack", (WRITER,), "the writer is wrapped under every name by which it was imported"),
        ("video of the Video, XYZ and AnimateDiff scripts", (FILES, "wrap video.save_video_atomic"), "clean frames in"),
        ("video as bytes", (*AFTER, WRITER), "cannot be looked into: dropped from the result, not written"),
        ("Control tab", (*AFTER, *SAVED), "callbacks run there for every extension"),
        ("Control tab, scripts", ("control_extensions",), "the title is added to the list of those that may run"),
        ("inpainting: what is pasted back", (*SAVED, *AFTER), "judged again with the original around it"),
        ("grading, resize and detailer after the hooks", (*SAVED, *AFTER), "judged again as it leaves"),
        ("steps between on disk: hires, detailer, colour", SAVED, "written through the same callback"),
        ("Process tab and API", (EXTRAS, TAB), "a step of its own, and the list that is returned"),
        ("jobs that save nothing", AFTER, "the sweep does not depend on saving"),
        ("grids, also of XYZ", (*SAVED, *AFTER, GRID), "made of clean pictures and judged as pictures"),
        ("what a script of the menu puts together", ("wrap ScriptRunner.run",), "what it returns is swept as a whole"),
        ("temporary files of the gallery, history", (*SAVED, *AFTER), "painted in place: all share one object"),
        ("prompts that the policy refuses", ("on_before_process",), "one black picture is drawn and no model runs"),
        ("arguments of the script by API", ("Script.before_process",), "they only tighten"),
        ("options by API, override_settings", ("on_ui_settings",), "not read for a job; locked settings only tighten"),
        (
            "what another extension's callback makes of a picture",
            (SAVED_BEHIND, AFTER_BEHIND),
            "judged once more behind all of them",
        ),
        ("metadata", SAVED, "a covered picture keeps no thumbnail or alpha; the verdict is written"),
        (
            "test buttons of the Control tab (SD_CONTROL_DEBUG)",
            (),
            "they call pipelines themselves: start the host without that variable",
        ),
        ("files that the host writes for its own debugging", (), "the last picture of X-Omni, and of soft filling"),
        ("video files of the Process tab", (), "a path to a file: only what a wrapped writer writes is checked"),
        *_NEVER,
    ),
)

A1111 = _exits(
    "a1111",
    (
        ("samples on disk", SAVED, "checked and painted in place before they are written"),
        ("result list, gallery and API answer", (LAST, INNER), "swept in place, also where nothing is saved"),
        ("extra pictures of a result", (LAST, INNER), "swept with it"),
        ("samples while they are worked on", ("Script.postprocess_image",), "painted before the infotext is made"),
        ("batches of tensors", ("Script.postprocess_batch", "Script.postprocess_batch_list"), "painted in place"),
        ("inpainting: what is pasted back", ("Script.postprocess_image_after_composite", *SAVED), "judged again"),
        ("mask composites", ("Script.postprocess_image", *SAVED, INNER), "made of a clean picture, and swept"),
        ("live previews", (DOOR,), "the attribute is a door: whatever is set there is covered first"),
        ("interrupted jobs", (*SAVED, LAST), "hooks still run"),
        ("jobs without scripts", (INNER,), "what a job returns is swept whatever scripts it has"),
        ("steps between on disk: hires, faces, colour", SAVED, "written through the same callback"),
        ("Extras tab and API", (EXTRAS, TAB), "a step of its own, and the list that is returned"),
        ("jobs that save nothing", (LAST, INNER), "the sweep does not depend on saving"),
        ("grids, also of XYZ", (*SAVED, INNER), "made of clean pictures and judged as pictures"),
        ("what a script of the menu puts together", ("wrap ScriptRunner.run",), "what it returns is swept as a whole"),
        ("temporary files of the gallery", (*SAVED, INNER), "painted in place: all share one object"),
        ("prompts that the policy refuses", (INNER,), "solid pictures are returned and nothing is drawn"),
        ("arguments of the script by API", ("Script.before_process",), "they only tighten"),
        (
            "options by API, override_settings",
            ("on_ui_settings",),
            "not read for a job; kept from the API where the host does (Forge does not)",
        ),
        (
            "what another extension's callback makes of a picture",
            (SAVED_BEHIND,),
            "judged once more behind all of them",
        ),
        ("metadata", SAVED, "a covered picture keeps no thumbnail or alpha; the verdict is written"),
        ("pipelines of its own in Forge Neo", (OUTER,), "what process_images returns is swept, its caption is asked"),
        ("video of Forge Neo", ("wrap images.save_video",), "clean frames in"),
        ("spaces of Forge", (), "pages of their own, outside of every hook"),
        (
            "video that an extension writes",
            (),
            "only Forge Neo has a known writer; frames are swept as pictures",
        ),
        *_NEVER,
    ),
)
