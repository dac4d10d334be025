// <kyvo-view data-scene="..."> draws solids on a floor and lets a finger, a mouse or the arrow keys walk around them.
// data-scene is the JSON of kyvo.demo.solids.view_data. Everything is convex and stands apart, so drawing what is
// further away first is enough: no WebGL is asked for.
(() => {
  const RING = 40, NEAR = 5, TILT = [0.05, 1.5], MARGIN = 1.32;
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const sub = (a, b) => a.map((one, i) => one - b[i]);
  const css = (color, alpha = 1) => `rgba(${color.map(Math.round).join(",")},${alpha})`;
  const mix = (color, goal, share) => color.map(one => one + (goal - one) * share);
  const shade = (color, light) => light < 0.5 ? mix(color, 0, 0.62 * (1 - 2 * light)) : mix(color, 255, 0.5 * (2 * light - 1));
  const turns = count => Array.from({ length: count }, (_, i) => 2 * Math.PI * i / count);

  // Where the viewer stands: points of the scene to pixels.
  class Eye {
    constructor(look, orbit, width, height) {
      const [azimuth, elevation] = [orbit.azimuth, orbit.elevation];
      this.target = look.target;
      this.distance = NEAR * look.extent;
      this.right = [-Math.sin(azimuth), Math.cos(azimuth), 0];
      this.toward = [Math.cos(elevation) * Math.cos(azimuth), Math.cos(elevation) * Math.sin(azimuth), Math.sin(elevation)];
      this.up = [-Math.sin(elevation) * Math.cos(azimuth), -Math.sin(elevation) * Math.sin(azimuth), Math.cos(elevation)];
      this.place = this.target.map((one, i) => one + this.distance * this.toward[i]);
      this.focal = Math.min(width, height) / 2 / (MARGIN * look.extent) * this.distance;
      this.middle = [width / 2, height / 2];
      // The lamp goes with the viewer: left, above, and behind them.
      this.lamp = this.toward.map((one, i) => 0.55 * one - 0.42 * this.right[i] + 0.72 * this.up[i]);
    }
    depth(point) { return this.distance - dot(sub(point, this.target), this.toward); }
    see(point) {
      const away = sub(point, this.target), scale = this.focal / Math.max(this.depth(point), 1e-3);
      return [this.middle[0] + dot(away, this.right) * scale, this.middle[1] - dot(away, this.up) * scale];
    }
    light(normal) { return 0.28 + 0.55 * Math.max(0, dot(normal, this.lamp)); }
  }

  class Drawing {
    constructor(canvas, data, orbit) {
      const ratio = window.devicePixelRatio || 1;
      this.size = [canvas.clientWidth, canvas.clientHeight];
      [canvas.width, canvas.height] = this.size.map(one => Math.round(one * ratio));
      this.pen = canvas.getContext("2d");
      this.pen.scale(ratio, ratio);
      this.pen.lineJoin = "round";
      this.data = data;
      this.eye = new Eye(data.look, orbit, ...this.size);
    }
    all() {
      this.floor();
      const order = this.data.solids.map((one, i) => i)
        .sort((a, b) => this.eye.depth(this.data.solids[b].center) - this.eye.depth(this.data.solids[a].center));
      for (const i of order) this.shadow(this.data.solids[i]);
      if (this.data.selected !== null) this.ring(this.data.solids[this.data.selected]);
      for (const i of order) this.solid(this.data.solids[i]);
      for (const i of order) this.badge(this.data.solids[i], i);
    }
    path(points) {
      this.pen.beginPath();
      points.forEach((point, i) => this.pen[i ? "lineTo" : "moveTo"](...this.eye.see(point)));
    }
    polygon(points, fill, edge = fill, width = 1) {
      this.path(points);
      this.pen.closePath();
      this.pen.fillStyle = fill;
      this.pen.fill();
      this.pen.strokeStyle = edge;
      this.pen.lineWidth = width;
      this.pen.stroke();
    }
    floor() {
      const { target: [x, y, z], extent } = this.data.look, step = 10 ** Math.floor(Math.log10(extent * 0.8));
      const at = (a, b) => [x + a, y + b, z];
      this.polygon([at(-extent, -extent), at(extent, -extent), at(extent, extent), at(-extent, extent)],
        "rgba(128,134,146,0.13)", "rgba(128,134,146,0.55)");
      this.pen.strokeStyle = "rgba(128,134,146,0.35)";
      for (let line = Math.ceil(-extent / step) * step; line <= extent; line += step) {
        this.path([at(line, -extent), at(line, extent)]);
        this.pen.stroke();
        this.path([at(-extent, line), at(extent, line)]);
        this.pen.stroke();
      }
    }
    disc(solid, z, grow) {
      const [wide, long] = solid.half.map(one => one * grow);
      return turns(RING).map(turn => this.turned(solid, [wide * Math.cos(turn), long * Math.sin(turn), z - solid.center[2]]));
    }
    shadow(solid) {
      const away = solid.half[2] * 0.25, z = this.data.look.target[2];
      const cast = { ...solid, center: solid.center.map((one, i) => one + away * (this.eye.right[i] - this.eye.toward[i] * 0.3)) };
      cast.center[2] = solid.center[2];
      const square = solid.kind === "cube" ? 1.3 : 1;
      for (const grow of [1.18, 1.08, 0.98, 0.85]) this.polygon(this.disc(cast, z, grow * square), "rgba(30,34,42,0.10)", "transparent");
    }
    ring(solid) {
      const grow = solid.kind === "cube" ? 1.65 : 1.3;
      this.polygon(this.disc(solid, this.data.look.target[2], grow), "rgba(79,70,229,0.16)", "rgb(99,91,255)", 2);
    }
    turned(solid, [x, y, z]) {
      const [c, s] = [Math.cos(solid.yaw || 0), Math.sin(solid.yaw || 0)];
      return [solid.center[0] + c * x - s * y, solid.center[1] + s * x + c * y, solid.center[2] + z];
    }
    solid(one) { ({ cube: () => this.cube(one), sphere: () => this.sphere(one), cylinder: () => this.cylinder(one) })[one.kind](); }
    cube(solid) {
      for (const axis of [0, 1, 2]) for (const side of [-1, 1]) {
        const flat = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([a, b]) => {
          const corner = [0, 0, 0];
          corner[axis] = side; corner[(axis + 1) % 3] = a; corner[(axis + 2) % 3] = b;
          return this.turned(solid, corner.map((c, i) => c * solid.half[i]));
        });
        const normal = [0, 0, 0];
        normal[axis] = side;
        this.face(solid, flat, sub(this.turned(solid, normal), solid.center));
      }
      if (solid.yaw !== null) this.nose(solid);
    }
    face(solid, corners, normal) {
      if (dot(normal, sub(this.eye.place, corners[0])) <= 0) return;
      const color = shade(solid.color, this.eye.light(normal)), edge = css(mix(solid.color, 0, 0.45), 0.8);
      this.polygon(corners, solid.metal ? this.gleam(corners, color) : css(color), edge);
    }
    gleam(corners, color) {
      const [from, to] = [this.eye.see(corners[0]), this.eye.see(corners[2])], paint = this.pen.createLinearGradient(...from, ...to);
      for (const [stop, share] of [[0, 0.05], [0.38, 0.12], [0.5, 0.6], [0.58, 0.15], [1, 0]]) paint.addColorStop(stop, css(mix(color, 255, share)));
      return paint;
    }
    nose(solid) {
      // Which way it looks: an arrow on its top.
      const [long, wide, high] = [solid.half[0] * 0.8, solid.half[1] * 0.5, solid.half[2]];
      this.polygon([[long, 0, high], [-long * 0.2, wide, high], [-long * 0.2, -wide, high]].map(one => this.turned(solid, one)),
        "rgba(255,255,255,0.75)", "rgba(0,0,0,0.4)");
    }
    sphere(solid) {
      const [x, y] = this.eye.see(solid.center), depth = this.eye.depth(solid.center), half = solid.half[0];
      const radius = half * this.eye.focal / Math.sqrt(Math.max(depth * depth - half * half, 1e-6));
      const paint = this.pen.createRadialGradient(x - radius * 0.36, y - radius * 0.42, radius * 0.04, x - radius * 0.1, y - radius * 0.1, radius * 1.12);
      const stops = solid.metal ? [[0, 1], [0.12, 0.97], [0.24, 0.55], [0.62, 0.3], [0.9, 0.05], [1, 0.3]] : [[0, 0.72], [0.45, 0.5], [0.85, 0.3], [1, 0.15]];
      for (const [stop, light] of stops) paint.addColorStop(stop, css(shade(solid.color, light)));
      this.pen.beginPath();
      this.pen.arc(x, y, radius, 0, 2 * Math.PI);
      this.pen.fillStyle = paint;
      this.pen.fill();
      this.pen.strokeStyle = css(mix(solid.color, 0, 0.5), 0.7);
      this.pen.lineWidth = 1;
      this.pen.stroke();
    }
    cylinder(solid) {
      const [lampX, lampY] = this.eye.lamp, flat = Math.hypot(lampX, lampY), across = [lampX / flat, lampY / flat, 0];
      const lid = z => this.disc(solid, solid.center[2] + z * solid.half[2], 1), [top, foot] = [lid(1), lid(-1)];
      turns(RING).forEach((turn, i) => {
        const next = (i + 1) % RING, middle = turn + Math.PI / RING, normal = [Math.cos(middle), Math.sin(middle), 0];
        if (dot(normal, sub(this.eye.place, foot[i])) <= 0) return;
        const light = this.eye.light(normal), gleam = solid.metal ? 0.7 * Math.max(0, dot(normal, across)) ** 16 : 0;
        this.polygon([foot[i], foot[next], top[next], top[i]], css(mix(shade(solid.color, light), 255, gleam)));
      });
      const above = this.eye.place[2] > solid.center[2] + solid.half[2];
      if (above) this.polygon(top, solid.metal ? this.gleam([top[22], top[31], top[2]], shade(solid.color, 0.62)) : css(shade(solid.color, 0.62)), css(mix(solid.color, 0, 0.45), 0.8));
    }
    badge(solid, index) {
      const [x, y] = this.eye.see([solid.center[0], solid.center[1], solid.center[2] + solid.half[2] * 1.15]), text = String(index + 1);
      this.pen.beginPath();
      this.pen.arc(x, y - 10, 9, 0, 2 * Math.PI);
      this.pen.fillStyle = index === this.data.selected ? "rgb(79,70,229)" : "rgba(31,36,48,0.78)";
      this.pen.fill();
      this.pen.fillStyle = "white";
      this.pen.font = "600 11px system-ui, sans-serif";
      this.pen.textAlign = "center";
      this.pen.textBaseline = "middle";
      this.pen.fillText(text, x, y - 9.5);
    }
  }

  // Shared by the views that follow each other on a page, so that a new scene is seen from where the last one was.
  let orbit = null;

  class KyvoView extends HTMLElement {
    static observedAttributes = ["data-scene"];
    connectedCallback() {
      if (!this.canvas) this.build();
      this.watch = new ResizeObserver(() => this.draw());
      this.watch.observe(this);
    }
    disconnectedCallback() { this.watch.disconnect(); }
    attributeChangedCallback() { this.draw(); }
    build() {
      // In a root of its own: the page may set this element's attributes and contents anew at any time.
      const root = this.attachShadow({ mode: "open" });
      root.innerHTML = "<style>canvas { display: block; width: 100%; height: 100% }</style><canvas></canvas>";
      this.canvas = root.querySelector("canvas");
      this.addEventListener("pointerdown", event => { this.setPointerCapture(event.pointerId); this.last = event; });
      this.addEventListener("pointermove", event => this.hasPointerCapture(event.pointerId) && this.drag(event));
      this.addEventListener("dblclick", () => { orbit = null; this.draw(); });
      this.addEventListener("keydown", event => {
        const way = { ArrowLeft: [12, 0], ArrowRight: [-12, 0], ArrowUp: [0, 12], ArrowDown: [0, -12] }[event.key];
        if (way) { event.preventDefault(); this.turn(...way); }
      });
    }
    get data() { return JSON.parse(this.dataset.scene); }
    get orbit() { return orbit || this.data.look; }
    drag(event) {
      this.turn(event.clientX - this.last.clientX, event.clientY - this.last.clientY);
      this.last = event;
    }
    turn(across, down) {
      const { azimuth, elevation } = this.orbit, scale = 2.6 / Math.max(this.clientWidth, 1);
      orbit = { azimuth: azimuth - across * scale, elevation: Math.min(TILT[1], Math.max(TILT[0], elevation + down * scale)) };
      this.draw();
    }
    draw() {
      if (this.canvas && this.canvas.clientWidth) new Drawing(this.canvas, this.data, this.orbit).all();
    }
  }
  if (!customElements.get("kyvo-view")) customElements.define("kyvo-view", KyvoView);
})();
