"""How many speakers there are, and which windows are whose."""

import numpy as np
from numpy.typing import NDArray
from pyannote.audio.pipelines.clustering import AgglomerativeClustering
from pyannote.core import SlidingWindowFeature
from sklearn.cluster import KMeans

Embeddings = NDArray[np.float32]
Labels = NDArray[np.int64]

MAX_CLUSTERED = 1_500
"""Spectral clustering takes time by the cube of this."""

MIN_CLUSTERED = 12
MAX_COUNTED = 9
NEIGHBOURS = 0.15


class CountingClustering(AgglomerativeClustering):
    """Agglomerative clustering tells the most speakers there may be, the gap in the eigenvalues how many there are.

    Then spectral clustering (Ng, Jordan and Weiss, 2001) on every window's nearest neighbours. Windows beyond
    `MAX_CLUSTERED` go to the nearest cluster.
    """

    def filter_embeddings(
        self,
        embeddings: Embeddings,
        segmentations: SlidingWindowFeature | None = None,
        min_active_ratio: float = 0.2,
    ) -> tuple[Embeddings, Labels, Labels]:
        found, windows, speakers = super().filter_embeddings(
            embeddings, segmentations=segmentations, min_active_ratio=min_active_ratio
        )
        if len(found) > MAX_CLUSTERED:
            kept = np.linspace(0, len(found) - 1, MAX_CLUSTERED).astype(int)
            found, windows, speakers = found[kept], windows[kept], speakers[kept]
        return found, windows, speakers

    def cluster(
        self,
        embeddings: Embeddings,
        min_clusters: int | None = None,
        max_clusters: int | None = None,
        num_clusters: int | None = None,
    ) -> Labels:
        if num_clusters is None or len(embeddings) < MIN_CLUSTERED:
            labels: Labels = super().cluster(
                embeddings.copy(), min_clusters=min_clusters, max_clusters=max_clusters, num_clusters=num_clusters
            )
            if labels.max() == 0 or len(embeddings) < MIN_CLUSTERED:
                return labels
            most, least = int(labels.max()) + 1, max(min_clusters or 1, 1)
        else:
            most = least = num_clusters
        eigenvalues, eigenvectors = np.linalg.eigh(_laplacian(embeddings))
        count = max(min(most, _count_by_gap(eigenvalues, least)), least)
        places = eigenvectors[:, :count]
        places = places / (np.linalg.norm(places, axis=1, keepdims=True) + 1e-9)
        return np.asarray(KMeans(count, n_init=5, random_state=0).fit_predict(places))


def _laplacian(embeddings: Embeddings) -> NDArray[np.float64]:
    """The normalised Laplacian of the graph of every window's nearest neighbours."""
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarity = np.clip(units @ units.T, 0, 1)
    num_kept = max(6, int(len(units) * NEIGHBOURS))
    nearest = np.argpartition(-similarity, num_kept - 1, axis=1)[:, :num_kept]
    rows = np.arange(len(units))[:, None]
    graph = np.zeros_like(similarity)
    graph[rows, nearest] = similarity[rows, nearest]
    graph = (graph + graph.T) / 2
    degree = np.sqrt(graph.sum(axis=1))
    return np.asarray(np.eye(len(units)) - graph / degree[:, None] / degree[None], np.float64)


def _count_by_gap(eigenvalues: NDArray[np.float64], least: int) -> int:
    """Two or more: as many as there are eigenvalues before the widest gap."""
    first = max(least, 2)
    gaps = np.diff(eigenvalues[: min(MAX_COUNTED, len(eigenvalues) - 1) + 1])
    return int(np.argmax(gaps[first - 1 :])) + first
