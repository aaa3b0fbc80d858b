"""VLCP: dataset distillation via vision-language category prototypes (Zou et al., ICCV 2025)."""
