"""The best Σ_k D_k C_k of a small operator whose matrix is known: the yardstick of fits.

(D C)[i, j] = d_i h(i − j), so with N collected by lag, M[i, ℓ] = N[i, i − ℓ], the best d and h are its first singular
pair and K factors its first K. Linear kernels never meet the lags that leave the volume, so those entries of M are
free; there the singular pairs start an alternating least squares.
"""

from __future__ import annotations

import numpy as np

from napari_unroll.physics.convolution import Shape


def lag_matrix(matrix: np.ndarray, shape: Shape, circular: bool) -> tuple[np.ndarray, np.ndarray]:
    """M (voxel, lag) and which of its entries exist, from the matrix of N (voxel, voxel)."""
    voxels = np.stack(np.unravel_index(np.arange(matrix.shape[0]), shape), 1)
    lags = voxels[:, None, :] - voxels[None, :, :]
    sizes = np.array(shape) if circular else 2 * np.array(shape) - 1
    columns = np.ravel_multi_index(tuple(np.moveaxis(lags % sizes, -1, 0)), tuple(sizes))
    M = np.zeros((matrix.shape[0], int(np.prod(sizes))), matrix.dtype)
    known = np.zeros(M.shape, bool)
    rows = np.arange(matrix.shape[0])[:, None]
    M[rows, columns], known[rows, columns] = matrix, True
    return M, known


def optimum(matrix: np.ndarray, shape: Shape, k: int = 1, circular: bool = False, n_iter: int = 15) -> float:
    """Least ‖N − Σ_k D_k C_k‖_F / ‖N‖_F over all weights and kernels."""
    M, known = lag_matrix(matrix, shape, circular)
    left, _ = _leading(M, k)
    right = left.conj().T @ M
    for _ in range(0 if circular else n_iter):
        right = _solve(left, M, known)
        left = _solve(right.T, M.T, known.T).T
    gap = np.where(known, M - left @ right, 0)
    return float(np.linalg.norm(gap) / np.linalg.norm(matrix))


def _leading(M: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(M @ M.conj().T)
    return vectors[:, -k:], values[-k:]


def _solve(basis: np.ndarray, M: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Least squares for coefficients (k, column) of ``basis`` (row, k) on the known entries of every column of M."""
    k = basis.shape[1]
    weights = known.astype(basis.real.dtype)
    products = (basis[:, :, None].conj() * basis[:, None, :]).reshape(-1, k * k)
    gram = (weights.T @ products).reshape(-1, k, k)
    rhs = (basis.conj().T @ np.where(known, M, 0)).T
    gram += 1e-9 * np.abs(gram).max() * np.eye(k)
    return np.asarray(np.linalg.solve(gram, rhs[..., None])[..., 0].T)
