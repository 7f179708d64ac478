// The server's OpenAPI description as a page.

import { $, el, notice } from "./dom.js";
import { chosenLanguage, setLanguage, t } from "./i18n.js";
import { restore } from "./state.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const DEPTH = 6;

/** Follows `#/components/…` inside the document. */
function resolve(spec, node, hops = 0) {
  if (!node?.$ref || hops > 10) return node ?? {};
  const target = node.$ref.replace(/^#\//, "").split("/").reduce((at, key) => at?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], spec);
  return resolve(spec, target, hops + 1);
}

/** A schema in a few words: `[string]`, `{model, data: [{…}]}`. */
function shape(spec, schema, depth = 0) {
  const it = resolve(spec, schema);
  if (depth > DEPTH) return "…";
  // Beside properties they say which go together, which a person reads in the descriptions.
  const many = it.properties ? null : it.oneOf ?? it.anyOf;
  if (many) return many.map((one) => shape(spec, one, depth + 1)).join(" | ");
  if (it.enum) return it.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (it.type === "array") return `[${shape(spec, it.items, depth + 1)}]`;
  if (it.properties) {
    const pad = "  ".repeat(depth + 1);
    const lines = Object.entries(it.properties).map(([name, value]) => {
      const note = resolve(spec, value).description ?? value.description;
      return `${pad}${name}${it.required?.includes(name) ? "" : "?"}: ${shape(spec, value, depth + 1)}${note ? `  — ${note}` : ""}`;
    });
    return `{\n${lines.join("\n")}\n${"  ".repeat(depth)}}`;
  }
  return [it.type].flat().filter(Boolean).join(" | ") || "any";
}

function example(spec, content) {
  const found = content?.example ?? Object.values(content?.examples ?? {})[0]?.value ?? resolve(spec, content?.schema).example;
  return found === undefined ? null : JSON.stringify(found);
}

function operation(spec, path, method, op) {
  const body = resolve(spec, op.requestBody).content?.["application/json"];
  const sample = example(spec, body);
  const card = el("details", { class: "card op-card" },
    el("summary", { class: "op" }, el("span", { class: "method", text: method.toUpperCase() }), el("span", { class: "path", text: path }), el("span", { class: "muted", text: op.summary ?? "" })));
  if (op.description) card.append(el("p", { text: op.description }));
  const parameters = (op.parameters ?? []).map((parameter) => resolve(spec, parameter));
  if (parameters.length) {
    card.append(el("h3", { text: t("docs.params") }), el("pre", { tabindex: "0", text: parameters.map((p) => `${p.name} (${p.in}): ${shape(spec, p.schema)}${p.description ? `  — ${p.description}` : ""}`).join("\n") }));
  }
  if (body) card.append(el("h3", { text: t("docs.request") }), el("pre", { tabindex: "0", text: shape(spec, body.schema) }));
  if (sample) {
    const curl = `curl ${location.origin}${path} -H 'content-type: application/json' -d '${sample.replaceAll("'", "'\\''")}'`;
    card.append(el("h3", { text: t("docs.try") }), el("pre", { tabindex: "0", text: curl }));
  }
  const answers = Object.entries(op.responses ?? {}).map(([status, answer]) => {
    const { description = "", content } = resolve(spec, answer);
    const schema = content?.["application/json"]?.schema;
    return `${status}  ${description}${schema && status.startsWith("2") ? `\n${shape(spec, schema)}` : ""}`;
  });
  if (answers.length) card.append(el("h3", { text: t("docs.answers") }), el("pre", { tabindex: "0", text: answers.join("\n") }));
  return card;
}

restore();
setLanguage(chosenLanguage());
try {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(String(answer.status));
  const spec = await answer.json();
  for (const [path, item] of Object.entries(spec.paths ?? {})) {
    for (const method of METHODS) if (item[method]) $("ops").append(operation(spec, path, method, item[method]));
  }
} catch (error) {
  notice($("docs-error"), `${t("docs.none")} (${error.message})`);
}
document.documentElement.dataset.ready = "true";
