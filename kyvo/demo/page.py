"""The page itself: panels of picture and scene, and a tab for each task that the model was trained for."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from kyvo.demo.desk import Desk
from kyvo.demo.object_form import Choice, Control
from kyvo.demo.panels import answer_html, change_html, picture_html, table_html, view_html
from kyvo.demo.phrases import instructions, questions
from kyvo.demo.scene_text import scene_text
from kyvo.demo.solids import object_name
from kyvo.demo.upload import FORMATS, MOST_BYTES
from kyvo.demo.workbench import Workbench

MOST_LETTERS = 400
"""Longest text that can be typed."""

VISITS = 64
"""Visits whose desks are kept."""

WAITING = 16
"""Visitors that may wait for the model; it works for one at a time."""

FOLDER = Path(__file__).parent
ENDINGS = [ending for group in FORMATS.values() for ending in group]

_PLACE = re.compile(r"^(?:images|scenes|texts)\[0\]: |^\w+ of sample 'input 0': |^input 0 takes ")
"""Where in the lists of the API something is wrong: on the page there is one of each."""

Step = Callable[..., Desk]


@dataclass(frozen=True)
class Event:
    """What happens when a visitor does something.

    Args:
        trigger: Gradio's, such as `button.click`.
        step: The next desk, from the desk and the values of `inputs`.
        inputs: What the step reads besides the desk.
        works: Whether the model works: one such step at a time, with a sign of progress.
        picks: Whether the step gets the number of what was picked.
        keeps: Components that are left as they are: the one that is being moved.
    """

    trigger: Any
    step: Step
    inputs: Sequence[Component] = ()
    works: bool = False
    picks: bool = False
    keeps: Sequence[Component] = ()


class Page:
    """A page over one model.

    Args:
        bench: The model and what is done with it.
        name: What the model is called.
    """

    def __init__(self, bench: Workbench, name: str) -> None:
        self.bench = bench
        self._shown: list[tuple[Component, Callable[[Desk], Any]]] = []
        self._events: list[Event] = []
        first = bench.start()
        with gr.Blocks(title=f"Kyvo: {name}", analytics_enabled=False, delete_cache=(600, 600)) as self.blocks:
            self.desk = gr.State(first)
            gr.HTML(_head(name))
            self._panels()
            self._pick()
            with gr.Tabs():
                self._tabs()
            self._wire()

    def launch(self, host: str, port: int, headers: Sequence[Any] = ()) -> str:
        """Serve the page in the background.

        Args:
            host: Address to listen on.
            port: Port; 0 takes the first that is free from 7860.
            headers: Starlette's middleware around every answer.

        Returns:
            Its URL.

        Raises:
            OSError: If the port is taken.
        """
        self.blocks.queue(default_concurrency_limit=1, max_size=WAITING, api_open=False)
        _, url, _ = self.blocks.launch(
            server_name=host,
            server_port=port or None,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            inbrowser=False,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            max_file_size=MOST_BYTES,
            state_session_capacity=VISITS,
            app_kwargs={"middleware": list(headers), "docs_url": None, "redoc_url": None},
            theme=_theme(),
            css_paths=FOLDER / "page.css",
            head=_scripts(),
        )
        return str(url)

    # ---- layout -------------------------------------------------------------------------------------------------

    def _panels(self) -> None:
        with gr.Row():
            with gr.Column(min_width=300):
                self.picture = self._show(gr.HTML(elem_id="kyvo-picture"), picture_html)
            with gr.Column(min_width=300):
                self.view = self._show(gr.HTML(elem_id="kyvo-scene"), partial(view_html, schema=self.bench.schema))

    def _pick(self) -> None:
        """Where pictures come from: examples, and files of the visitor."""
        with gr.Row(equal_height=True):
            if self.bench.examples:
                self._gallery()
            if self.bench.reads_pictures:
                self._upload()

    def _gallery(self) -> None:
        gallery = gr.Gallery(
            [(one.picture, None) for one in self.bench.examples],
            show_label=False,
            container=False,
            format="png",
            columns=8,
            allow_preview=False,
            interactive=False,
            buttons=[],
            scale=5,
            min_width=320,
            elem_id="kyvo-examples",
        )
        self._on(gallery.select, lambda desk, index: self.bench.example(index), picks=True, works=True)

    def _upload(self) -> None:
        button = gr.UploadButton("Upload a picture", file_types=ENDINGS, scale=1, min_width=150, elem_id="kyvo-upload")
        self._on(button.upload, lambda desk, path: self.bench.upload(path), [button], works=True)

    def _tabs(self) -> None:
        bench = self.bench
        for able, title, build in (
            (True, "Scene", self._scene),
            (bench.renders, "Objects", self._objects),
            (bench.instructs, "Instruct", self._instruct),
            (bench.answers, "Ask", self._ask),
        ):
            if able:
                with gr.Tab(title):
                    build()

    def _scene(self) -> None:
        """The scene as a table and as JSON."""
        schema = self.bench.schema
        if self.bench.recognizes:
            button = gr.Button("Recognise the picture", variant="primary", elem_id="kyvo-recognize")
            self._on(button.click, self.bench.recognize, works=True)
        self._show(gr.HTML(elem_id="kyvo-table"), lambda desk: table_html(desk.scene, schema))
        with gr.Accordion("As JSON", open=False):
            label = "Change it and use it, or save it"
            code = gr.Code(language="json", label=label, lines=4, max_lines=16, elem_id="kyvo-json")
            self._show(code, lambda desk: "" if desk.scene is None else scene_text(desk.scene, schema))
            apply = gr.Button("Use this scene", size="sm", elem_id="kyvo-apply")
        self._on(apply.click, lambda desk, text: self.bench.read(desk, text or ""), [code])

    def _objects(self) -> None:
        """The selected object's controls."""
        chooser = gr.Radio([], label="Object", elem_id="kyvo-objects")
        self._show(chooser, self._choices)
        self._on(chooser.input, self.bench.select, [chooser])
        with gr.Row():
            for label, step in (("Add an object", self.bench.add), ("Remove this object", self.bench.remove)):
                self._on(gr.Button(label, size="sm").click, step)
        controls = self._controls()
        for control, component in controls:
            kept = [other for _, other in controls] if isinstance(component, gr.Slider) else [component]
            self._on(component.input, partial(self._change, control), [component], keeps=kept)
        button = gr.Button("Draw this scene", variant="primary", elem_id="kyvo-render")
        self._on(button.click, self.bench.render, works=True)

    def _controls(self) -> list[tuple[Control, Component]]:
        """A drop-down for each word, a slider for each number."""
        words = [one for one in self.bench.form.controls if isinstance(one, Choice)]
        numbers = [one for one in self.bench.form.controls if not isinstance(one, Choice)]
        found: list[tuple[Control, Component]] = []
        with gr.Row():
            for word in words:
                found.append((word, gr.Dropdown(list(word.values), label=word.attribute, min_width=120)))
        with gr.Row():
            for one in numbers:
                slider = gr.Slider(one.low, one.high, step=one.step, label=one.quantity, min_width=160, buttons=[])
                found.append((one, slider))
        for control, component in found:
            self._show(component, partial(self._control_value, control))
        return found

    def _instruct(self) -> None:
        schema = self.bench.schema
        self._sentence(
            "What should change?", "Do it", "kyvo-instruct", self.bench.instruct, partial(instructions, schema=schema)
        )
        self._show(gr.HTML(elem_id="kyvo-change"), change_html)

    def _ask(self) -> None:
        schema = self.bench.schema
        self._sentence("Your question", "Ask", "kyvo-ask", self.bench.ask, partial(questions, schema=schema))
        self._show(gr.HTML(elem_id="kyvo-answer"), answer_html)

    def _sentence(self, label: str, verb: str, name: str, step: Step, ideas: Callable[[Any], list[str]]) -> None:
        """A line of text with a button, and texts to try."""
        with gr.Row(equal_height=True):
            box = gr.Textbox(label=label, max_length=MOST_LETTERS, lines=1, scale=4, elem_id=f"{name}-text")
            button = gr.Button(verb, variant="primary", scale=1, min_width=110, elem_id=name)
        tries = gr.Dataset(components=[gr.Textbox(visible=False)], samples=[], label="Try", samples_per_page=10)
        self._show(tries, lambda desk: gr.Dataset(samples=[[one] for one in ideas(desk.scene)]))
        tries.click(lambda sample: sample[0], [tries], [box], api_visibility="private", show_progress="hidden")
        for trigger in (button.click, box.submit):
            self._on(trigger, step, [box], works=True)

    # ---- what is shown ------------------------------------------------------------------------------------------

    def _show(self, component: Component, content: Callable[[Desk], Any]) -> Component:
        """Let a component show something of the desk, whenever it changes."""
        self._shown.append((component, content))
        return component

    def _choices(self, desk: Desk) -> Any:
        names = [object_name(one, self.bench.schema) for one in desk.scene or ()]
        choices = [(f"{number} {name}", number - 1) for number, name in enumerate(names, 1)]
        return gr.update(choices=choices, value=desk.selected)

    def _control_value(self, control: Control, desk: Desk) -> Any:
        if desk.selected is None:
            return gr.update(interactive=False)
        return gr.update(value=control.read(desk.known.objects[desk.selected]), interactive=True)

    def _change(self, control: Control, desk: Desk, value: str | float) -> Desk:
        return self.bench.change(desk, control, value)

    # ---- events -------------------------------------------------------------------------------------------------

    def _on(self, trigger: Any, step: Step, inputs: Sequence[Component] = (), **options: Any) -> None:
        self._events.append(Event(trigger, step, inputs, **options))

    def _wire(self) -> None:
        """Connect the events, once everything that they change is there."""
        for event in self._events:
            shown = [one for one in self._shown if one[0] not in event.keeps]
            event.trigger(
                _picking(event.step, shown) if event.picks else _stepping(event.step, shown),
                [self.desk, *event.inputs],
                [self.desk, *(component for component, _ in shown)],
                show_progress="minimal" if event.works else "hidden",
                show_progress_on=[self.picture, self.view] if event.works else None,
                # Presses of a button while it works are mistakes; who picks again wants the last.
                trigger_mode="once" if event.works and not event.picks else "always_last",
                concurrency_limit=1,
                concurrency_id="model" if event.works else None,
                api_visibility="private",
            )
        self.blocks.load(
            lambda desk: [content(desk) for _, content in self._shown],
            [self.desk],
            [component for component, _ in self._shown],
            show_progress="hidden",
            api_visibility="private",
        )


Shown = Sequence[tuple[Component, Callable[[Desk], Any]]]


def _stepping(step: Step, shown: Shown) -> Callable[..., list[Any]]:
    def next_page(desk: Desk, *values: Any) -> list[Any]:
        return _after(step, shown, desk, *values)

    return next_page


def _picking(step: Step, shown: Shown) -> Callable[..., list[Any]]:
    # Gradio hands over what was picked because of the annotation.
    def next_page(desk: Desk, picked: gr.SelectData) -> list[Any]:
        return _after(step, shown, desk, picked.index)

    return next_page


def _after(step: Step, shown: Shown, desk: Desk, *values: Any) -> list[Any]:
    """The next desk and what is shown of it; what is wrong with an input becomes a message, and all stays as it is."""
    try:
        found = step(desk, *values)
    except ValueError as error:
        raise gr.Error(plain_message(error), print_exception=False) from error
    return [found, *(content(found) for _, content in shown)]


def plain_message(error: ValueError) -> str:
    """What is wrong, for a visitor: without the place in a list, as text that a page can show.

    >>> plain_message(ValueError("texts[0]: expected a text of <b>1</b> to 512 tokens, got 0"))
    'Expected a text of &lt;b&gt;1&lt;/b&gt; to 512 tokens, got 0'
    """
    text = _PLACE.sub("", str(error))
    return escape(text[:1].upper() + text[1:])


def _head(name: str) -> str:
    return (
        f'<div class="kyvo-head"><h1>Kyvo</h1><p>One model that reads and writes pictures, 3D scenes and text: '
        f"<code>{escape(name)}</code></p></div>"
    )


def _scripts() -> str:
    view, upload = ((FOLDER / name).read_text(encoding="utf-8") for name in ("view.js", "upload.js"))
    limits = f'data-most-bytes="{MOST_BYTES}" data-endings="{",".join(ENDINGS)}"'
    return f"<script>{view}</script><script {limits}>{upload}</script>"


def _theme() -> Any:
    # Fonts of the visitor's machine: others would be fetched from the network.
    fonts, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    return gr.themes.Default(primary_hue="indigo", neutral_hue="slate", font=fonts, font_mono=mono)
