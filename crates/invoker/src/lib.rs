//! Placement, warm pool and admission of execution environments, and the HTTP face a runtime sees.
