"""How many speakers there are, and which stretches of audio are whose."""

import numpy as np
from numpy.typing import NDArray
from pyannote.audio.pipelines.clustering import AgglomerativeClustering
from pyannote.core import SlidingWindowFeature
from pyannote.pipeline.parameter import Uniform
from scipy.cluster.hierarchy import fcluster, linkage

Embeddings = NDArray[np.float32]
Labels = NDArray[np.int64]

MAX_CLUSTERED = 1_500
"""The first pass takes memory by the square of this; stretches beyond it go to the nearest cluster."""

SMALLEST_SHARE = 0.2
"""However short a recording is, a fifth of its stretches make a speaker."""

CLUSTERS_PER_SPEAKER = 5


class CentroidMergeClustering(AgglomerativeClustering):
    """First too many clusters, by agglomeration of single embeddings; then the most similar ones are merged.

    The mean of many short stretches is far less noisy than any of them, so one threshold on centroids counts
    one speaker and twenty. As in second passes by re-estimated speaker models (Barras et al., "Multistage speaker
    diarization of broadcast news", 2006).

    method, threshold: of the first pass, a linkage and the cosine distance at which it is cut.
    min_cluster_size: in stretches; what is smaller goes to the nearest other cluster.
    merge: the cosine of two centroids above which they are one speaker.
    noise: how much less that may be for small clusters, times the square root of the smaller one's size: the mean of
        few stretches is further from its speaker.
    """

    def __init__(self, metric: str = "cosine", constrained_assignment: bool = False) -> None:
        super().__init__(metric=metric, constrained_assignment=constrained_assignment)
        self.merge = Uniform(-1.0, 1.0)
        self.noise = Uniform(0.0, 2.0)

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
        fewest = num_clusters or min_clusters or 1
        most = num_clusters or max_clusters or len(embeddings)
        if len(embeddings) < 2:
            return np.zeros(len(embeddings), np.int64)
        vectors = _unit(embeddings)
        smallest = min(self.min_cluster_size, max(1, round(SMALLEST_SHARE * len(vectors))))
        centroids = self._first_centroids(vectors, fewest, smallest)
        while True:
            labels = _compact((vectors @ centroids.T).argmax(axis=1))
            centroids, sizes = _centroids(vectors, labels), np.bincount(labels)
            if len(sizes) <= fewest:
                return labels
            if sizes.min() < smallest:
                centroids = np.delete(centroids, sizes.argmin(), axis=0)
                continue
            similarity = centroids @ centroids.T + self.noise / np.sqrt(np.minimum(sizes[:, None], sizes[None]))
            np.fill_diagonal(similarity, -np.inf)
            first, second = np.unravel_index(similarity.argmax(), similarity.shape)
            if similarity[first, second] < self.merge and len(sizes) <= most:
                return labels
            centroids = _centroids(vectors, _compact(np.where(labels == second, first, labels)))

    def _first_centroids(self, vectors: Embeddings, fewest: int, smallest: int) -> Embeddings:
        """Of the clusters of the first pass that are large enough."""
        tree = linkage(vectors, method=self.method, metric="cosine")
        labels = fcluster(tree, self.threshold, criterion="distance")
        if labels.max() < fewest:  # the caller knows of more speakers
            labels = fcluster(tree, min(len(vectors), CLUSTERS_PER_SPEAKER * fewest), criterion="maxclust")
        sizes = np.bincount(labels)
        num_kept = max(1, fewest, int(np.count_nonzero(sizes >= smallest)))
        kept = [label for label in np.argsort(-sizes, kind="stable") if sizes[label] > 0][:num_kept]
        return _unit(np.stack([vectors[labels == label].mean(axis=0) for label in kept]))


def _centroids(vectors: Embeddings, labels: Labels) -> Embeddings:
    return _unit(np.stack([vectors[labels == label].mean(axis=0) for label in range(labels.max() + 1)]))


def _compact(labels: Labels) -> Labels:
    """Number labels from 0 without gaps."""
    return np.asarray(np.unique(labels, return_inverse=True)[1], np.int64)


def _unit(vectors: Embeddings) -> Embeddings:
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-9), np.float32)
