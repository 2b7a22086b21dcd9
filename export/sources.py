"""Sources: whose the texts are that models learn from, and under which license."""

from __future__ import annotations

from typing import Final, NamedTuple


class Source(NamedTuple):
    """A source of text. loose: lines that do not follow one another, so that no window is joined of them."""

    license: str
    attribution: str
    loose: bool = False

    @property
    def share_alike(self) -> bool:
        """Whether a license of it asks that what is made of the text is shared alike."""
        return "BY-SA" in self.license


_TRANSLATED: Final = "translations of the documentation of"

SOURCES: Final = {
    # English.
    "nltk_inaugural": Source("public domain", "inaugural addresses of US presidents, by way of NLTK"),
    "nltk_state_union": Source("public domain", "State of the Union addresses, by way of NLTK"),
    "nq_open_questions": Source("CC BY-SA 3.0", "Natural Questions, Google", loose=True),
    "open_english_wordnet": Source(
        "CC BY 4.0", "Open English WordNet, after Princeton WordNet 3.0, copyright Princeton University", True
    ),
    "open_english_wordnet_headwords": Source(
        "CC BY 4.0", "Open English WordNet, after Princeton WordNet 3.0, copyright Princeton University", True
    ),
    "openstax_cc_by": Source("CC BY 4.0", "textbooks of OpenStax, Rice University"),
    "owasp_cheatsheets": Source("CC BY-SA 4.0", "OWASP Cheat Sheet Series, the OWASP Foundation"),
    "powershell_docs": Source("CC BY 4.0", "PowerShell documentation, Microsoft"),
    "python_peps": Source("public domain", "Python Enhancement Proposals, their authors"),
    "rust_book": Source("MIT or Apache-2.0", "The Rust Programming Language, its contributors"),
    "tatoeba_english": Source("CC BY 2.0 FR", "Tatoeba, tatoeba.org, by way of LASER", loose=True),
    "tldr_descriptions": Source("CC BY 4.0", "tldr-pages and its contributors", loose=True),
    "wikisplit_sentences": Source("CC BY-SA 4.0", "Wikipedia, by way of WikiSplit, Google", loose=True),
    "wikitext2_valid_test": Source("CC BY-SA 3.0", "Wikipedia, by way of WikiText-2, Salesforce Research"),
    "wsl_terminal_docs": Source("CC BY 4.0", "WSL and Windows Terminal documentation, Microsoft"),
    # Other languages, and translations.
    "arcd_train": Source("MIT, its texts CC BY-SA", "Wikipedia, by way of ARCD"),
    "azd_course_mt": Source("MIT", "AZD for Beginners, Microsoft, translated by machine"),
    "bitcoin_site": Source("MIT", "the site of bitcoin.org"),
    "chatbot_data": Source("MIT", "Chatbot_data"),
    "chatterbot": Source("BSD-3", "ChatterBot corpus"),
    "cncf_glossary": Source("CC BY 4.0", "glossary of the Cloud Native Computing Foundation"),
    "common_voice": Source("CC0", "Common Voice, Mozilla: the sentences that are read aloud"),
    "comprehensive_rust": Source("Apache-2.0, its texts CC BY 4.0", f"{_TRANSLATED} Comprehensive Rust"),
    "d2l": Source("CC BY-SA 4.0, Chinese Apache-2.0", "Dive into Deep Learning"),
    "django_docs": Source("BSD-3", f"{_TRANSLATED} Django"),
    "django_girls": Source("CC BY-SA 4.0", "Django Girls"),
    "drcd_test_cmrc_trial": Source("CC BY-SA 3.0, CC BY-SA 4.0", "Wikipedia, by way of DRCD and CMRC"),
    "edgeai_course_mt": Source("MIT", "EdgeAI for Beginners, Microsoft, translated by machine"),
    "electron_docs": Source("MIT", f"{_TRANSLATED} Electron"),
    "eltec": Source("public domain", "ELTeC, European Literary Text Collection: novels of 1840 to 1920"),
    "freecodecamp_news": Source("CC BY-SA 4.0", "freeCodeCamp News"),
    "gnome_help": Source("CC BY 3.0, some pages CC BY-SA 3.0", "GNOME's user documentation"),
    "helm_docs": Source("MIT", f"{_TRANSLATED} Helm"),
    "home_assistant": Source("CC BY 4.0", "Home Assistant intents"),
    "iot_course_mt": Source("MIT", "IoT for Beginners, Microsoft, translated by machine"),
    "jaquad_train_passages": Source("CC BY-SA 3.0", "Wikipedia, by way of JaQuAD"),
    "jaquad_train_questions": Source("CC BY-SA 3.0", "Wikipedia, by way of JaQuAD"),
    "jglue": Source("CC BY-SA 4.0", "JGLUE"),
    "klue": Source("CC BY-SA 4.0", "KLUE"),
    "manythings": Source("CC BY 2.0 FR", "Tatoeba, tatoeba.org, by way of LASER and manythings.org"),
    "monero_site": Source("BSD-3", "the site of Monero"),
    "ms_help": Source("CC BY 4.0", "Microsoft 365 help articles, Microsoft"),
    "mt_docs": Source("MIT", "IoT for Beginners and EdgeAI for Beginners, Microsoft, translated by machine"),
    "node_best_practices": Source("CC BY-SA 4.0", "Node.js Best Practices"),
    "nodejs_site": Source("MIT", "the site of Node.js"),
    "nsmc": Source("CC0", "NSMC"),
    "ntrex": Source("CC BY-SA 4.0", "NTREX-128, Microsoft"),
    "nusax": Source("CC BY-SA 4.0", "NusaX"),
    "opensource_guide": Source("CC BY 4.0", "Open Source Guides, GitHub"),
    "openstax": Source("CC BY 4.0", "textbooks of OpenStax, Rice University"),
    "otel_docs": Source("CC BY 4.0", f"{_TRANSLATED} OpenTelemetry"),
    "parakqc": Source("CC BY-SA 4.0", "paraKQC"),
    "php_manual": Source("CC BY 3.0", f"{_TRANSLATED} PHP"),
    "pquad_validation": Source("CC BY-SA 4.0", "Wikipedia, by way of PQuAD"),
    "privacy_guides": Source("CC BY-SA 4.0", "Privacy Guides"),
    "pud": Source("CC BY-SA 3.0 and 4.0", "Parallel Universal Dependencies"),
    "pydocs": Source("PSF, CC0", f"{_TRANSLATED} Python"),
    "react_docs": Source("CC BY 4.0", f"{_TRANSLATED} React"),
    "rpi_projects": Source("CC BY-SA 4.0", "projects of the Raspberry Pi Foundation"),
    "software_carpentry": Source("CC BY 4.0", "Software Carpentry"),
    "stories": Source("CC BY", "African Storybook and Pratham Books"),
    "svlm_wikipedia": Source("CC BY-SA 3.0", "Wikipedia, by way of SVLM"),
    "swequad_train": Source("CC BY 4.0", "texts of Swedish authorities, by way of SweQUAD-MC"),
    "tatoeba": Source("CC BY 2.0 FR", "Tatoeba, tatoeba.org, by way of LASER and manythings.org"),
    "tech_docs": Source(
        "CC BY 3.0 and 4.0, PSF, CC0, BSD-3, Apache-2.0, MIT",
        f"{_TRANSLATED} PHP, Python, Django, TensorFlow, React, Vue, Electron, Helm, OpenTelemetry, Comprehensive "
        "Rust and tldr-pages",
    ),
    "tensorflow_docs": Source("Apache-2.0, its texts CC BY 4.0", f"{_TRANSLATED} TensorFlow"),
    "tico19": Source("CC0", "TICO-19"),
    "tldr": Source("CC BY 4.0", "tldr-pages and its contributors"),
    "turku_paraphrase": Source("CC BY-SA 4.0", "Turku paraphrase corpus"),
    "ud": Source(
        "CC BY-SA 4.0, some CC BY 4.0", "Universal Dependencies: treebanks of 24 languages, by their authors"
    ),
    "vue_docs": Source("CC BY 4.0", f"{_TRANSLATED} Vue"),
    "wikipedia_annotated": Source("CC BY-SA 4.0", "Wikipedia, by way of the Wikipedia Annotated Corpus"),
    "wisesight": Source("CC0", "Wisesight sentiment corpus"),
}
