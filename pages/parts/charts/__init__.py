"""Pure functions from domain data to Plotly figures. No Streamlit, no storage."""
