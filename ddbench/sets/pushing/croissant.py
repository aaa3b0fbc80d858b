"""The metadata of a published set in Croissant 1.0 and its RAI vocabulary: what is known, and what is not."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from ddbench import __version__
from ddbench.sets import card
from ddbench.sets.pushing.publication import Publication, features

#: The name of the file.
FILE = "croissant.json"


def metadata(publication: Publication) -> dict[str, Any]:
    """Return the metadata in Croissant 1.0 with the fields of its RAI vocabulary 1.0.

    Where nothing is known, that is said: nobody looked.
    """
    about, method = publication.first.about["dataset"], publication.first.about["method"]
    url = f"https://huggingface.co/datasets/{publication.repo}"
    made = f"Made by the method {method['name']} (ddbench {__version__}) from the training split of {about['name']}"
    name = about["name"]
    options = ", ".join(f"{name} = {json.dumps(value)}" for name, value in sorted(method["options"].items()))
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": publication.repo.partition("/")[2],
        "description": f"{publication.title}: {', '.join(publication.sets)}. A distilled training set.",
        "url": url,
        "license": publication.licence,
        "creator": {"@type": "sc:Organization", "name": publication.repo.partition("/")[0]},
        "keywords": ["dataset distillation", "dataset condensation", method["name"], about["name"]],
        "isLiveDataset": False,
        "datePublished": date.today().isoformat(),
        **({"citeAs": publication.bibtex} if publication.bibtex else {}),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "repo",
                "name": "repo",
                "description": "The repository.",
                "contentUrl": url,
                "encodingFormat": "git+https",
                "sha256": "https://github.com/mlcommons/croissant/issues/80",
            },
            *(
                {
                    "@type": "cr:FileSet",
                    "@id": f"files-{config}",
                    "name": f"files-{config}",
                    "containedIn": {"@id": "repo"},
                    "encodingFormat": "application/x-parquet",
                    "includes": f"{config}/{card.TRAIN}-*.parquet",
                }
                for config in publication.sets
            ),
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": config,
                "name": config,
                "field": [_field(config, name, kind) for name, kind in features(publication, one).items()],
            }
            for config, one in publication.sets.items()
        ],
        "rai:dataCollection": f"{made}; source: {about.get('origin') or 'not stated'}.",
        "rai:dataCollectionType": "Others: distilled from an existing data set",
        "rai:dataCollectionRawData": f"{about['name']}, fingerprint {about['fingerprint']}",
        "rai:dataPreprocessingProtocol": f"Options of the method: {options or 'none'}.",
        "rai:dataUseCases": "Research on dataset distillation: training classifiers on few images, comparing methods."
        f" Not meant as a stand-in for {name} in any other use.",
        "rai:dataLimitations": "Accuracies hold for the protocol and network that their records name; labels are those"
        " of the source and were not checked.",
        "rai:dataBiases": f"Not examined. Those of {name} are inherited, and few images per class can add to them.",
        "rai:personalSensitiveInformation": f"Not examined. The images derive from {name} and may show what it shows.",
    }


def _field(config: str, name: str, about: dict[str, Any]) -> dict[str, Any]:
    kinds = {"Image": "sc:ImageObject", "ClassLabel": "sc:Integer", "Sequence": "sc:Float", "Array3D": "sc:Float"}
    extract: dict[str, Any] = {"column": name}
    more: dict[str, Any] = {"transform": {"jsonPath": "bytes"}} if about["_type"] == "Image" else {}
    return {
        "@type": "cr:Field",
        "@id": f"{config}/{name}",
        "name": f"{config}/{name}",
        "dataType": kinds.get(about["_type"], "sc:Text"),
        **({"repeated": True} if about["_type"] in ("Sequence", "Array3D") else {}),
        "source": {"fileSet": {"@id": f"files-{config}"}, "extract": extract, **more},
    }


#: As the format asks it to be.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
